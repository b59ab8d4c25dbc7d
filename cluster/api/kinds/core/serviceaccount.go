package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ServiceAccount describes v1 ServiceAccount; its token subresource lives with the API server.
func ServiceAccount() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Resource:   "serviceaccounts",
		Singular:   "serviceaccount",
		ShortNames: []string{"sa"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.ServiceAccount{} },
		NewList:    func() runtime.Object { return &corev1.ServiceAccountList{} },

		PrepareForCreate: func(_ context.Context, obj kind.Object) { keepSecretNames(obj) },
		PrepareForUpdate: func(_ context.Context, obj, _ kind.Object) { keepSecretNames(obj) },

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			sa := obj.(*corev1.ServiceAccount)
			return []any{sa.Name, table.Since(sa.CreationTimestamp)}
		},
	}
}

// keepSecretNames drops all but the names from the references to secrets: they are always in the
// account's own namespace.
func keepSecretNames(obj kind.Object) {
	sa := obj.(*corev1.ServiceAccount)
	for i, ref := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}

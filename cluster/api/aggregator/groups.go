package aggregator

import (
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kube-aggregator/pkg/apiserver/scheme"
)

// ServeGroups answers /apis in its older form: the groups of all APIServices by their priority, and
// before them that of APIServices, which has none.
func (s *Server) ServeGroups(w http.ResponseWriter, r *http.Request) {
	own := metav1.GroupVersionForDiscovery{GroupVersion: apiregistrationv1.SchemeGroupVersion.String(), Version: apiregistrationv1.SchemeGroupVersion.Version}
	list := &metav1.APIGroupList{Groups: []metav1.APIGroup{{
		Name: apiregistrationv1.GroupName, Versions: []metav1.GroupVersionForDiscovery{own}, PreferredVersion: own,
	}}}
	for _, group := range helper.SortedByGroupAndVersion(s.all()) {
		if group[0].Spec.Group != "" {
			list.Groups = append(list.Groups, groupOf(group))
		}
	}
	answer(w, r, list)
}

// ServeGroup answers /apis/<group>, or 404 when no APIService has the group.
func (s *Server) ServeGroup(w http.ResponseWriter, r *http.Request, group string) {
	found := slices.DeleteFunc(s.all(), func(svc *apiregistrationv1.APIService) bool { return svc.Spec.Group != group })
	if len(found) == 0 {
		http.NotFound(w, r)
		return
	}
	out := groupOf(helper.SortedByGroupAndVersion(found)[0])
	answer(w, r, &out)
}

// groupOf describes the group of APIServices that are sorted.
func groupOf(sorted []*apiregistrationv1.APIService) metav1.APIGroup {
	out := metav1.APIGroup{Name: sorted[0].Spec.Group}
	for _, svc := range sorted {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{
			GroupVersion: svc.Spec.Group + "/" + svc.Spec.Version, Version: svc.Spec.Version})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

func answer(w http.ResponseWriter, r *http.Request, obj runtime.Object) {
	responsewriters.WriteObjectNegotiated(scheme.Codecs, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{}, w, r, http.StatusOK, obj, false)
}

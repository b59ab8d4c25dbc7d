package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

func runUndo(ctx context.Context, cfg historyConfig, arg string, out io.Writer) error {
	if cfg.to == 0 {
		return fmt.Errorf("say which revision to go back to with --to; troupe history %s shows them", arg)
	}
	key, mapping, err := cfg.find(arg)
	if err != nil {
		return err
	}
	all, err := cfg.read(ctx, key)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p past) bool { return p.rev == cfg.to })
	switch {
	case i < 0:
		return fmt.Errorf("the change stream has no revision %d of %s; troupe history %s shows what it has", cfg.to, arg, arg)
	case all[i].sealed:
		return fmt.Errorf("what %s held is sealed in the change stream and cannot be read back from it", arg)
	}
	config, err := cfg.flags().ToRESTConfig()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	var objects dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if key.Namespace != "" {
		objects = client.Resource(mapping.Resource).Namespace(key.Namespace)
	}
	const manager = "troupe-history"
	current, err := objects.Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if current, err = objects.Create(ctx, afresh(all[i].object), metav1.CreateOptions{FieldManager: manager}); err != nil {
			return fmt.Errorf("create %s anew: %w", arg, err)
		}
		fmt.Fprintf(out, "%s created as at revision %d, now at %s\n", arg, cfg.to, current.GetResourceVersion())
		return nil
	}
	if err != nil {
		return err
	}
	was := current.GetResourceVersion()
	current, err = objects.Update(ctx, goBack(current, all[i].object), metav1.UpdateOptions{FieldManager: manager})
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("%s changed at this moment; look at it and try again", arg)
	case err != nil:
		return err
	case current.GetResourceVersion() == was:
		fmt.Fprintf(out, "%s is as at revision %d already\n", arg, cfg.to)
	default:
		fmt.Fprintf(out, "%s is as at revision %d again, now at %s\n", arg, cfg.to, current.GetResourceVersion())
	}
	return nil
}

// kept are the fields that undoing leaves alone: what the object is, and what others report of it.
var kept = []string{"apiVersion", "kind", "metadata", "status"}

// goBack returns the object as it is now with everything else as it was. It keeps its
// resourceVersion, so that writing it fails if the object has changed since.
func goBack(now *unstructured.Unstructured, was map[string]any) *unstructured.Unstructured {
	out := now.DeepCopy()
	maps.DeleteFunc(out.Object, func(field string, _ any) bool { return !slices.Contains(kept, field) })
	for field, v := range was {
		if !slices.Contains(kept, field) {
			out.Object[field] = v
		}
	}
	return out
}

// afresh returns what to create in place of an object that is gone: without what a server says
// about an object, and without owners, which may be gone, too.
func afresh(was map[string]any) *unstructured.Unstructured {
	old := &unstructured.Unstructured{Object: was}
	out := (&unstructured.Unstructured{Object: maps.Clone(was)}).DeepCopy()
	delete(out.Object, "status")
	delete(out.Object, "metadata")
	out.SetName(old.GetName())
	out.SetNamespace(old.GetNamespace())
	out.SetLabels(old.GetLabels())
	out.SetAnnotations(old.GetAnnotations())
	return out
}

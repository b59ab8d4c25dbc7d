package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	// knownFields are the fields of a pod that a reference may name at all; each place takes some.
	knownFields = sets.New(
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
		"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
		"status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	)
	envFields = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
		"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	volumeFields = sets.New("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")

	resourceFields = sets.New("limits.cpu", "limits.memory", "limits.ephemeral-storage",
		"requests.cpu", "requests.memory", "requests.ephemeral-storage")
	hugePagesFields = []string{"limits.hugepages-", "requests.hugepages-"}

	cpuDivisors  = []string{"1m", "1"}
	sizeDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

func (v *validator) env(vars []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		env, path := &vars[i], path.Index(i)
		if env.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else {
			errs = append(errs, check.Invalid(env.Name, validation.IsRelaxedEnvVarName(env.Name), path.Child("name"))...)
		}
		errs = append(errs, v.envSource(env, path.Child("valueFrom"))...)
	}
	return errs
}

func (v *validator) envSource(env *corev1.EnvVar, path *field.Path) field.ErrorList {
	from := env.ValueFrom
	if from == nil {
		return nil
	}
	var errs field.ErrorList
	sources := 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields, path.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(from.ResourceFieldRef, false, path.Child("resourceFieldRef"))...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, path.Child("configMapKeyRef"))...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, path.Child("secretKeyRef"))...)
	}
	if from.FileKeyRef != nil {
		sources++
		errs = append(errs, v.fileKeyRef(from.FileKeyRef, path.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case env.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// validateFieldRef checks a reference to a field of the pod. Labels and annotations may be asked
// for by key: metadata.labels['app'].
func validateFieldRef(ref *corev1.ObjectFieldSelector, valid sets.Set[string], path *field.Path) field.ErrorList {
	if ref.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if ref.FieldPath == "" {
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	}
	whole := path // where Kubernetes tells of subscripts
	path = path.Child("fieldPath")
	name, key, hasKey := splitSubscript(ref.FieldPath)
	if name == "spec.host" {
		name = "spec.nodeName"
	}
	if ref.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(path, ref.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", ref.APIVersion))}
	}
	if !knownFields.Has(name) {
		return field.ErrorList{field.Invalid(path, ref.FieldPath, fmt.Sprintf("error converting fieldPath: field label not supported: %s", name))}
	}
	if hasKey {
		switch name {
		case "metadata.annotations":
			return check.QualifiedName(strings.ToLower(key), whole)
		case "metadata.labels":
			return check.QualifiedName(key, whole)
		}
		return field.ErrorList{field.Invalid(whole, name, "does not support subscript")}
	}
	if !valid.Has(name) {
		return field.ErrorList{field.NotSupported(path, name, sets.List(valid))}
	}
	return nil
}

// splitSubscript splits "path['key']".
func splitSubscript(s string) (path, key string, ok bool) {
	head, rest, found := strings.Cut(s, "['")
	if key, end := strings.CutSuffix(rest, "']"); found && end && head != "" {
		return head, key, true
	}
	return s, "", false
}

func validateResourceFieldRef(ref *corev1.ResourceFieldSelector, inVolume bool, path *field.Path) field.ErrorList {
	switch {
	case inVolume && ref.ContainerName == "":
		return field.ErrorList{field.Required(path.Child("containerName"), "")}
	case ref.Resource == "":
		return field.ErrorList{field.Required(path.Child("resource"), "")}
	case !resourceFields.Has(ref.Resource) && !isHugePagesField(ref.Resource):
		return field.ErrorList{field.NotSupported(path.Child("resource"), ref.Resource, sets.List(resourceFields))}
	}
	return validateDivisor(ref, path.Child("divisor"))
}

func isHugePagesField(name string) bool {
	return slices.ContainsFunc(hugePagesFields, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func validateDivisor(ref *corev1.ResourceFieldSelector, path *field.Path) field.ErrorList {
	if ref.Divisor.Cmp(resource.Quantity{}) == 0 {
		return nil
	}
	text := ref.Divisor.String()
	_, what, _ := strings.Cut(ref.Resource, ".")
	switch {
	case what == "cpu":
		if !slices.Contains(cpuDivisors, text) {
			return field.ErrorList{field.Invalid(path, ref.Resource, "only divisor's values 1m and 1 are supported with the cpu resource")}
		}
	case !slices.Contains(sizeDivisors, text):
		if what == "ephemeral-storage" {
			what = "local ephemeral storage"
		} else if what != "memory" {
			what = "hugepages"
		}
		return field.ErrorList{field.Invalid(path, ref.Resource,
			fmt.Sprintf("only divisor's values %s are supported with the %s resource", strings.Join(sizeDivisors, ", "), what))}
	}
	return nil
}

// validateKeyRef checks a reference to one key of a ConfigMap or Secret.
func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	errs := check.DNSSubdomain(name, path.Child("name"))
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, check.Invalid(key, validation.IsConfigMapKey(key), path.Child("key"))...)
}

func (v *validator) fileKeyRef(ref *corev1.FileKeySelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ref.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), ""))
	} else {
		errs = append(errs, check.Invalid(ref.Key, validation.IsRelaxedEnvVarName(ref.Key), path.Child("key"))...)
	}
	at := path.Child("volumeName")
	if ref.VolumeName == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.DNSLabel(ref.VolumeName, at)...)
	}
	switch i := slices.IndexFunc(v.spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == ref.VolumeName }); {
	case i < 0:
		errs = append(errs, field.NotFound(at, ref.VolumeName))
	case v.spec.Volumes[i].EmptyDir == nil:
		errs = append(errs, field.Invalid(at, ref.VolumeName, "referenced volume must be of type emptyDir"))
	}
	if ref.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, NoBacksteps(ref.Path, path.Child("path"))...)
}

func validateEnvFrom(sources []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range sources {
		from, at := &sources[i], path.Index(i)
		if from.Prefix != "" {
			errs = append(errs, check.Invalid(from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix), at.Child("prefix"))...)
		}
		n := 0
		if from.ConfigMapRef != nil {
			n++
			errs = append(errs, requiredSubdomain(from.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if from.SecretRef != nil {
			n++
			errs = append(errs, requiredSubdomain(from.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case n == 0:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case n > 1:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// requiredSubdomain checks the name of an object that must be given.
func requiredSubdomain(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.DNSSubdomain(name, path)
}

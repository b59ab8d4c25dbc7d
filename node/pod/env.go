package pod

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/kubectl/pkg/util/fieldpath"
	kresource "k8s.io/kubectl/pkg/util/resource"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// envSource is what values of environment variables may come from.
type envSource struct {
	objects  Objects
	services []*corev1.Service
	podIPs   []string
	hostIPs  []string
	node     string
	// capacity stands in for limits that are not set.
	capacity corev1.ResourceList
}

// environ resolves a container's environment: service variables first, then envFrom, then env, each
// overriding what came before; $(NAME) is expanded from what is defined so far.
func environ(p *corev1.Pod, c *corev1.Container, src envSource) ([]*cri.KeyValue, error) {
	e := &vars{at: make(map[string]int)}
	serviceVars(e, p, src.services)
	for i := range c.EnvFrom {
		if err := envFrom(e, p.Namespace, &c.EnvFrom[i], src.objects); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		value, ok, err := envValue(e, p, c, v, src)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e.list, nil
}

// vars is an ordered set of variables.
type vars struct {
	list []*cri.KeyValue
	at   map[string]int
}

func (e *vars) set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.list[i].Value = []byte(value)
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, &cri.KeyValue{Key: name, Value: []byte(value)})
}

func (e *vars) get(name string) (string, bool) {
	if i, ok := e.at[name]; ok {
		return string(e.list[i].Value), true
	}
	return "", false
}

func lookup(list []*cri.KeyValue) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range list {
			if v.Key == name {
				return string(v.Value), true
			}
		}
		return "", false
	}
}

func envFrom(e *vars, namespace string, from *corev1.EnvFromSource, objects Objects) error {
	data := make(map[string]string)
	switch {
	case from.ConfigMapRef != nil:
		cm, ok := objects.ConfigMap(namespace, from.ConfigMapRef.Name)
		if !ok {
			if isTrue(from.ConfigMapRef.Optional) {
				return nil
			}
			return fmt.Errorf("configmap %q not found", from.ConfigMapRef.Name)
		}
		data = cm.Data
	case from.SecretRef != nil:
		s, ok := objects.Secret(namespace, from.SecretRef.Name)
		if !ok {
			if isTrue(from.SecretRef.Optional) {
				return nil
			}
			return fmt.Errorf("secret %q not found", from.SecretRef.Name)
		}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if name := from.Prefix + k; len(validation.IsRelaxedEnvVarName(name)) == 0 {
			e.set(name, data[k])
		}
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// envValue resolves one variable; ok is false when its source is optional and missing.
func envValue(e *vars, p *corev1.Pod, c *corev1.Container, v *corev1.EnvVar, src envSource) (value string, ok bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, e.get), true, nil
	case from.FieldRef != nil:
		value, err = podField(p, from.FieldRef.FieldPath, src)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceField(p, c, from.ResourceFieldRef, src.capacity)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, found := src.objects.ConfigMap(p.Namespace, ref.Name)
		if !found {
			return missing(ref.Optional, fmt.Errorf("configmap %q not found", ref.Name))
		}
		if value, ok = cm.Data[ref.Key]; ok {
			return value, true, nil
		}
		if b, found := cm.BinaryData[ref.Key]; found {
			return string(b), true, nil
		}
		return missing(ref.Optional, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, p.Namespace, ref.Name))
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, found := src.objects.Secret(p.Namespace, ref.Name)
		if !found {
			return missing(ref.Optional, fmt.Errorf("secret %q not found", ref.Name))
		}
		if b, found := s.Data[ref.Key]; found {
			return string(b), true, nil
		}
		return missing(ref.Optional, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, p.Namespace, ref.Name))
	}
	return "", false, fmt.Errorf("env %s: its source is not supported", v.Name)
}

func missing(optional *bool, err error) (string, bool, error) {
	if isTrue(optional) {
		return "", false, nil
	}
	return "", false, err
}

// podField resolves a downward API field.
func podField(p *corev1.Pod, path string, src envSource) (string, error) {
	switch path {
	case "spec.nodeName":
		return src.node, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(src.hostIPs), nil
	case "status.hostIPs":
		return strings.Join(src.hostIPs, ","), nil
	case "status.podIP":
		return first(src.podIPs), nil
	case "status.podIPs":
		return strings.Join(src.podIPs, ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(p, path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// resourceField resolves requests and limits of a container; a limit that is not set is the node's.
func resourceField(p *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, capacity corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" && ref.ContainerName != c.Name {
		other := findContainer(p, ref.ContainerName)
		if other == nil {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
		c = other
	}
	if name, ok := strings.CutPrefix(ref.Resource, "limits."); ok {
		if _, set := c.Resources.Limits[corev1.ResourceName(name)]; !set {
			if q, known := capacity[corev1.ResourceName(name)]; known {
				c = c.DeepCopy()
				if c.Resources.Limits == nil {
					c.Resources.Limits = corev1.ResourceList{}
				}
				c.Resources.Limits[corev1.ResourceName(name)] = q
			}
		}
	}
	return kresource.ExtractContainerResourceValue(ref, c)
}

func findContainer(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := ephemeral(p, i); c.Name == name {
			return c
		}
	}
	return nil
}

// serviceVars defines the variables that name services, as Docker links once did.
func serviceVars(e *vars, p *corev1.Pod, services []*corev1.Service) {
	links := p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range services {
		master := s.Namespace == "default" && s.Name == "kubernetes"
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 ||
			!master && !(links && s.Namespace == p.Namespace) {
			continue
		}
		oneService(e, s)
	}
}

func oneService(e *vars, s *corev1.Service) {
	ip := s.Spec.ClusterIP
	host := ip
	if strings.Contains(ip, ":") {
		host = "[" + ip + "]"
	}
	name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	e.set(name+"_SERVICE_HOST", ip)
	e.set(name+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for _, port := range s.Spec.Ports {
		if port.Name != "" {
			e.set(name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(port.Name, "-", "_")), strconv.Itoa(int(port.Port)))
		}
	}
	for i, port := range s.Spec.Ports {
		proto := strings.ToLower(string(cmp.Or(port.Protocol, corev1.ProtocolTCP)))
		url := fmt.Sprintf("%s://%s:%d", proto, host, port.Port)
		if i == 0 {
			e.set(name+"_PORT", url)
		}
		head := fmt.Sprintf("%s_PORT_%d_%s", name, port.Port, strings.ToUpper(proto))
		e.set(head, url)
		e.set(head+"_PROTO", proto)
		e.set(head+"_PORT", strconv.Itoa(int(port.Port)))
		e.set(head+"_ADDR", ip)
	}
}

// expand replaces $(NAME) by the variable's value; $$ stands for $, an unknown name stays as it is.
func expand(in string, get func(string) (string, bool)) string {
	if !strings.Contains(in, "$") {
		return in
	}
	var b strings.Builder
	for i := 0; i < len(in); i++ {
		if in[i] != '$' || i+1 == len(in) {
			b.WriteByte(in[i])
			continue
		}
		switch in[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(in[i:], ')')
			if end < 0 {
				b.WriteByte('$')
				continue
			}
			if v, ok := get(in[i+2 : i+end]); ok {
				b.WriteString(v)
			} else {
				b.WriteString(in[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func expandAll(in []string, get func(string) (string, bool)) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for i := range in {
		out[i] = expand(in[i], get)
	}
	return out
}

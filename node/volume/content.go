package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/fieldpath"
	kresource "k8s.io/kubectl/pkg/util/resource"
)

// defaultMode of files where the manifest says none; the API defaults it too.
const defaultMode = 0o644

// hasContent tells the volumes whose files come from the cluster.
func hasContent(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// writeContent gathers the files of a volume and writes them. Only a configMap may lie on disk:
// secrets, tokens and what is mixed with them stay in memory.
func (m *Manager) writeContent(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	dir, err := m.volumeDir(pod.UID, v.Name)
	if err != nil {
		return err
	}
	g := gatherer{m: m, pod: pod, volume: v.Name, dir: dir, out: content{}}
	if err := g.gather(ctx, v); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if v.ConfigMap == nil {
		if err := ensureTmpfs(dir); err != nil {
			return err
		}
	}
	gid := fsGroup(pod)
	mode := fs.FileMode(0o777)
	if gid != nil {
		mode |= fs.ModeSetgid
	}
	if err := os.Chown(dir, -1, id(gid)); err != nil {
		return err
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	_, err = g.out.write(dir, gid, m.cfg.Clock.Now())
	return err
}

// gatherer collects the files of one volume.
type gatherer struct {
	m      *Manager
	pod    *corev1.Pod
	volume string
	dir    string
	out    content
}

func (g *gatherer) gather(ctx context.Context, v *corev1.Volume) error {
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return g.configMap(s.Name, s.Items, s.DefaultMode, s.Optional)
	case v.Secret != nil:
		s := v.Secret
		return g.secret(s.SecretName, s.Items, s.DefaultMode, s.Optional)
	case v.DownwardAPI != nil:
		return g.downward(v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	}
	// All faults at once: who mends one wants to know the next.
	var errs []error
	for _, s := range v.Projected.Sources {
		switch mode := v.Projected.DefaultMode; {
		case s.ConfigMap != nil:
			errs = append(errs, g.configMap(s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional))
		case s.Secret != nil:
			errs = append(errs, g.secret(s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional))
		case s.DownwardAPI != nil:
			errs = append(errs, g.downward(s.DownwardAPI.Items, mode))
		case s.ServiceAccountToken != nil:
			errs = append(errs, g.token(ctx, s.ServiceAccountToken, mode))
		default:
			errs = append(errs, errors.New("this source of a projected volume is not supported on this node"))
		}
	}
	return errors.Join(errs...)
}

func (g *gatherer) configMap(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	cm, ok := g.m.cfg.Objects.ConfigMap(g.pod.Namespace, name)
	if !ok {
		if isTrue(optional) {
			return nil
		}
		return missing{fmt.Sprintf("configmap %q not found", name)}
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, cm.BinaryData)
	return g.keys(data, items, mode, isTrue(optional), "configmap references non-existent config key: %s")
}

func (g *gatherer) secret(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	s, ok := g.m.cfg.Objects.Secret(g.pod.Namespace, name)
	if !ok {
		if isTrue(optional) {
			return nil
		}
		return missing{fmt.Sprintf("secret %q not found", name)}
	}
	return g.keys(s.Data, items, mode, isTrue(optional), "references non-existent secret key: %s")
}

// keys adds every key as a file, or those that items name.
func (g *gatherer) keys(data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional bool, complaint string) error {
	if len(items) == 0 {
		for k, v := range data {
			g.out[k] = entry{data: v, mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return missing{fmt.Sprintf(complaint, item.Key)}
		}
		g.out[item.Path] = entry{data: v, mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (g *gatherer) downward(items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = fieldpath.ExtractFieldPathAsString(g.pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = g.resource(item.ResourceFieldRef)
		default:
			err = errors.New("it names no field")
		}
		if err != nil {
			return fmt.Errorf("downward API file %s: %w", item.Path, err)
		}
		g.out[item.Path] = entry{data: []byte(value), mode: modeOf(item.Mode, mode)}
	}
	return nil
}

// resource resolves a request or limit of a container; the node stands in for a limit not set.
func (g *gatherer) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	for _, c := range allContainers(g.pod) {
		if c.Name != ref.ContainerName {
			continue
		}
		c = c.DeepCopy()
		if limit, ok := strings.CutPrefix(ref.Resource, "limits."); ok {
			name := corev1.ResourceName(limit)
			if _, set := c.Resources.Limits[name]; !set {
				if q, known := g.m.cfg.Allocatable()[name]; known {
					if c.Resources.Limits == nil {
						c.Resources.Limits = corev1.ResourceList{}
					}
					c.Resources.Limits[name] = q
				}
			}
		}
		return kresource.ExtractContainerResourceValue(ref, c)
	}
	return "", fmt.Errorf("container %q is not in the pod", ref.ContainerName)
}

func (g *gatherer) token(ctx context.Context, src *corev1.ServiceAccountTokenProjection, mode *int32) error {
	value, err := g.m.token(ctx, g.pod, g.volume, src)
	if err != nil {
		// Cut off from the control plane, the token that is there may still be good.
		have, readErr := os.ReadFile(filepath.Join(g.dir, dataLink, filepath.FromSlash(src.Path)))
		if readErr != nil {
			return fmt.Errorf("get service account token: %w", err)
		}
		g.m.cfg.Log.Warn("service account token is not renewed", "pod", g.pod.Namespace+"/"+g.pod.Name, "err", err)
		value = string(have)
	}
	e := entry{data: []byte(value), mode: modeOf(nil, mode), uid: fsUser(g.pod)}
	if e.uid != nil || fsGroup(g.pod) != nil {
		e.mode = 0o600 // its owner or group reads it; nobody else needs to
	}
	g.out[src.Path] = e
	return nil
}

// modeOf picks the file's own mode, the volume's, or the default.
func modeOf(own, volume *int32) fs.FileMode {
	switch {
	case own != nil:
		return fs.FileMode(*own).Perm()
	case volume != nil:
		return fs.FileMode(*volume).Perm()
	}
	return defaultMode
}

func isTrue(b *bool) bool { return b != nil && *b }

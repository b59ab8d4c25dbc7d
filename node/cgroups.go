package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"

	"github.com/troupe-run/troupe/node/pod"
)

const (
	cgroupMount = "/sys/fs/cgroup"
	// cgroupTop is the group all pods of this machine live in, a group below for each data folder.
	cgroupTop = "/troupe"
)

// cgroupRoot is the group of all pods of a data folder.
func cgroupRoot(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return filepath.Join(cgroupTop, hex.EncodeToString(sum[:4]))
}

// podCgroups keeps a cgroup around each pod, so that pods share the CPU by what they asked for and
// none takes more memory than all its containers may.
type podCgroups struct {
	root string

	mu   sync.Mutex
	made map[types.UID]bool
}

func newCgroups(dataDir string) *podCgroups {
	return &podCgroups{root: cgroupRoot(dataDir), made: make(map[types.UID]bool)}
}

func (g *podCgroups) of(uid types.UID) string { return filepath.Join(g.root, "pod"+string(uid)) }

func (g *podCgroups) Ensure(p *corev1.Pod) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := g.of(p.UID)
	if g.made[p.UID] {
		return path, nil
	}
	make := makeCgroup1
	if unified() {
		make = makeCgroup2
	}
	if err := make(path, podShare(p)); err != nil {
		return "", fmt.Errorf("make cgroup %s: %w", path, err)
	}
	g.made[p.UID] = true
	return path, nil
}

// Fit writes what the pod may have now into its cgroup; grow leaves a larger memory limit as it is,
// so that nothing in it is cut off before it has shrunk.
func (g *podCgroups) Fit(p *corev1.Pod, grow bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	path, s := g.of(p.UID), podShare(p)
	limit := filepath.Join(cgroupMount, "memory", path, "memory.limit_in_bytes")
	none := "-1"
	if unified() {
		limit, none = filepath.Join(cgroupMount, path, "memory.max"), "max"
	}
	now, err := strconv.ParseInt(line(limit), 10, 64)
	bounded := err == nil && now < 1<<62 // version 1 words "no limit" as a very large number
	if s.memory == 0 && bounded {
		if err := os.WriteFile(limit, []byte(none), 0o644); err != nil {
			return fmt.Errorf("resize cgroup %s: %w", path, err)
		}
	}
	if grow && (!bounded || now >= s.memory) {
		s.memory = 0 // it has enough, or no limit
	}
	make := makeCgroup1
	if unified() {
		make = makeCgroup2
	}
	if err := make(path, s); err != nil {
		return fmt.Errorf("resize cgroup %s: %w", path, err)
	}
	return nil
}

// unified says whether this machine has cgroup version 2 alone.
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers"))
	return err == nil
}

// share is what a pod gets of the machine as a whole.
type share struct {
	cpu    int64 // cpu.shares
	memory int64 // bytes; 0 means no limit
}

// podShare adds up what the containers ask for and may take. A limit counts only when every
// container has one.
func podShare(p *corev1.Pod) share {
	out := share{cpu: 2}
	if qos.GetPodQOS(p) != corev1.PodQOSBestEffort {
		requests := resource.PodRequests(p, resource.PodResourcesOptions{})
		out.cpu = min(max(requests.Cpu().MilliValue()*1024/1000, 2), 262144)
	}
	if allLimited(p) {
		limits := resource.PodLimits(p, resource.PodResourcesOptions{})
		out.memory = limits.Memory().Value()
	}
	return out
}

// makeCgroup1 makes the group where it has limits; the runtime makes it in the other hierarchies.
func makeCgroup1(path string, s share) error {
	if err := setCgroup(filepath.Join(cgroupMount, "cpu", path), "cpu.shares", s.cpu); err != nil {
		return err
	}
	if s.memory == 0 {
		return nil
	}
	return setCgroup(filepath.Join(cgroupMount, "memory", path), "memory.limit_in_bytes", s.memory)
}

func makeCgroup2(path string, s share) error {
	root := filepath.Dir(path)
	for _, parent := range []string{"/", cgroupTop, root} {
		parent = filepath.Join(cgroupMount, parent)
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
		// Groups below may only be limited in what is switched on here.
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644); err != nil {
			return err
		}
	}
	// The conversion every runtime uses: shares 2 to 262144 become weights 1 to 10000.
	if err := setCgroup(filepath.Join(cgroupMount, path), "cpu.weight", 1+(s.cpu-2)*9999/262142); err != nil {
		return err
	}
	if s.memory == 0 {
		return nil
	}
	return setCgroup(filepath.Join(cgroupMount, path), "memory.max", s.memory)
}

func setCgroup(dir, file string, value int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), strconv.AppendInt(nil, value, 10), 0o644)
}

func allLimited(p *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Resources.Limits.Memory().IsZero() {
				return false
			}
		}
	}
	return true
}

func (g *podCgroups) Remove(uid types.UID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.made, uid)
	return removeCgroup(g.of(uid))
}

// Sweep removes the groups of pods that are not among the living and that nobody has asked for in
// this life of the agent: a crash leaves them, and so does a runtime that makes a sandbox for a
// client that is gone.
func (g *podCgroups) Sweep(living []types.UID) error {
	roots, err := hierarchies()
	if err != nil {
		return fmt.Errorf("sweep cgroups: %w", err)
	}
	found := make(map[types.UID]bool)
	for _, root := range roots {
		dirs, err := os.ReadDir(filepath.Join(root, g.root))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep cgroups: %w", err)
		}
		for _, d := range dirs {
			if uid, ok := strings.CutPrefix(d.Name(), "pod"); ok && d.IsDir() {
				found[types.UID(uid)] = true
			}
		}
	}
	var errs []error
	for uid := range found {
		if !slices.Contains(living, uid) {
			errs = append(errs, g.removeLeftover(uid))
		}
	}
	return errors.Join(errs...)
}

func (g *podCgroups) removeLeftover(uid types.UID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made[uid] { // it came after the living were counted
		return nil
	}
	return removeCgroup(g.of(uid))
}

// hierarchies are the folders cgroups live below.
func hierarchies() ([]string, error) {
	roots := []string{cgroupMount}
	if unified() {
		return roots, nil
	}
	list, err := os.ReadDir(cgroupMount)
	for _, e := range list {
		roots = append(roots, filepath.Join(cgroupMount, e.Name()))
	}
	return roots, err
}

// removeCgroup removes a cgroup with what is below it, in every hierarchy. The pod is gone by then:
// processes still in it, which lost their shim, are killed.
func removeCgroup(path string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	const tries, pause = 100, 20 * time.Millisecond
	for i := 0; ; i++ {
		var errs []error
		for _, root := range roots {
			errs = append(errs, removeGroupDir(filepath.Join(root, path)))
		}
		err := errors.Join(errs...)
		if i == tries || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		for _, root := range roots {
			killGroup(filepath.Join(root, path))
		}
		time.Sleep(pause) //nolint:forbidigo // the kernel takes them out on its own time
	}
}

// killGroup kills the processes in a folder of groups. What cannot be read has gone.
func killGroup(dir string) {
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		text, _ := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return nil
	})
}

// removeCgroups removes the groups of all pods of a data folder, and the one above them when no
// other cluster on this machine uses it.
func removeCgroups(dataDir string) error {
	if err := removeCgroup(cgroupRoot(dataDir)); err != nil {
		return err
	}
	roots, err := hierarchies()
	for _, root := range roots {
		_ = os.Remove(filepath.Join(root, cgroupTop)) // fails while it holds others
	}
	return err
}

// removeGroupDir removes one folder of groups, the deepest first: the files in them go with them.
func removeGroupDir(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, p)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

var _ pod.Cgroups = (*podCgroups)(nil)

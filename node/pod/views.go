package pod

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// View is what others may know of a pod that is on this node now. Nothing in it may be changed.
type View struct {
	UID             types.UID
	Namespace, Name string
	// Pod is the newest version wanted; its status is the one reported last.
	Pod *corev1.Pod
	// Status is the newest one, reported or not.
	Status *corev1.PodStatus
	// Sandbox is the ID of the sandbox that is ready, empty when there is none.
	Sandbox string
	// Runs of the pod's containers that the runtime still has, the newest of each first.
	Runs []Run
}

// Run is one run of a container.
type Run struct {
	Container string
	ID        string
	Running   bool
	LogPath   string
}

// Run returns a run by its ID.
func (v *View) Run(id string) (Run, bool) {
	for _, r := range v.Runs {
		if r.ID == id {
			return r, true
		}
	}
	return Run{}, false
}

// Running returns the run of a container that is under way.
func (v *View) Running(container string) (Run, bool) {
	for _, r := range v.Runs {
		if r.Container == container && r.Running {
			return r, true
		}
	}
	return Run{}, false
}

// views is the only state pod actors share with the outside: the newest view of each pod.
type views struct {
	mu     sync.RWMutex
	byUID  map[types.UID]View
	byName map[[2]string]types.UID
}

func newViews() *views {
	return &views{byUID: make(map[types.UID]View), byName: make(map[[2]string]types.UID)}
}

func (v *views) put(w View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.byUID[w.UID] = w
	v.byName[[2]string{w.Namespace, w.Name}] = w.UID
}

func (v *views) drop(uid types.UID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w, ok := v.byUID[uid]
	if !ok {
		return
	}
	delete(v.byUID, uid)
	if key := [2]string{w.Namespace, w.Name}; v.byName[key] == uid {
		delete(v.byName, key)
	}
}

func (v *views) find(namespace, name string) (View, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	w, ok := v.byUID[v.byName[[2]string{namespace, name}]]
	return w, ok
}

func (v *views) list() []View {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]View, 0, len(v.byUID))
	for _, w := range v.byUID {
		out = append(out, w)
	}
	return out
}

// viewOf derives the view from what the actor knows.
func (p *podActor) viewOf() View {
	out := View{UID: p.s.uid, Namespace: p.s.pod.Namespace, Name: p.s.pod.Name, Pod: p.s.pod, Status: p.last}
	if b := p.s.live(); b != nil {
		out.Sandbox = b.id
	}
	if len(p.s.containers) > 0 {
		out.Runs = make([]Run, len(p.s.containers))
	}
	for i := range p.s.containers {
		x := &p.s.containers[i]
		out.Runs[i] = Run{Container: x.name, ID: x.id, Running: x.running(), LogPath: x.logPath}
	}
	return out
}

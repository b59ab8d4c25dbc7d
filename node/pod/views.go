package pod

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// View is what others may know of a pod that is on this node now.
type View struct {
	UID             types.UID
	Namespace, Name string
	// Sandbox is the ID of the sandbox that is ready, empty when there is none.
	Sandbox string
	// Containers of the pod, the newest run of each.
	Containers []ContainerView
}

// ContainerView is the newest run of a container, and the one before it.
type ContainerView struct {
	Name     string
	ID       string
	Running  bool
	LogPath  string
	Previous *ContainerView
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
	out := View{UID: p.s.uid, Namespace: p.s.pod.Namespace, Name: p.s.pod.Name}
	if b := p.s.live(); b != nil {
		out.Sandbox = b.id
	}
	for i := range p.s.containers {
		x := &p.s.containers[i]
		if p.s.current(x.name) != x {
			continue
		}
		w := viewContainer(x)
		if prev := p.s.previous(x.name); prev != nil {
			before := viewContainer(prev)
			w.Previous = &before
		}
		out.Containers = append(out.Containers, w)
	}
	return out
}

func viewContainer(x *container) ContainerView {
	return ContainerView{Name: x.name, ID: x.id, Running: x.running(), LogPath: x.logPath}
}

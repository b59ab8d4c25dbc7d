package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/probe"
)

// Messages of this package. Those to a pod actor coalesce, so that its mailbox is bounded by their
// kinds and its containers.
type (
	// wanted is the newest version of a pod to run.
	wanted struct{ pod *corev1.Pod }
	// unwanted says that the pod's object is gone, or never was: take everything down.
	unwanted struct{}
	// observed is news from the runtime: an event, or what a list showed.
	observed struct {
		sandboxes  []sandbox
		containers []container
		// all says that what existed since and is not listed does not exist any more.
		all   bool
		since time.Time
	}
	// objectsChanged says that something a pod refers to changed.
	objectsChanged struct{}
	// probed is a probe's new verdict about one run of a container.
	probed struct {
		name, id string
		kind     probe.Kind
		ok       bool
	}
	// probeDue is a probe's own timer.
	probeDue struct{}
	// wakeDue, reportDue, refreshDue, resizeDue and loadDue are the pod's own timers.
	wakeDue    struct{}
	loadDue    struct{}
	reportDue  struct{}
	refreshDue struct{}
	resizeDue  struct{}

	// evicted says that the node needs what the pod uses; message is for users.
	evicted struct{ message string }
	// released says that the node needs the disk that ended containers take.
	released struct{}

	// delivered is a message of the link for the supervisor.
	delivered struct{ msg link.Message }
	// evict and release are evicted and released for the supervisor, which finds the pods.
	evict struct {
		uid     types.UID
		message string
	}
	release struct{}
	// finished tells the supervisor that nothing of a pod is left.
	finished struct{ uid types.UID }
	// resend asks the supervisor to say again what is wanted, after a restart of the pod actor.
	resend struct{ uid types.UID }
	// runtimeEvent is one event of the runtime's stream.
	runtimeEvent struct{ event *cri.ContainerEventResponse }
	// relistDue, followDue and rotateDue are the supervisor's own timers.
	relistDue struct{}
	rotateDue struct{}
	followDue struct{}
)

func (wanted) CoalesceKey() any         { return wanted{} }
func (unwanted) CoalesceKey() any       { return unwanted{} }
func (released) CoalesceKey() any       { return released{} }
func (objectsChanged) CoalesceKey() any { return objectsChanged{} }

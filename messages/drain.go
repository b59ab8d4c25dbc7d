package messages

import "k8s.io/apimachinery/pkg/types"

// LeavingPod is a pod that is marked for deletion.
type LeavingPod struct {
	Key Key
	UID types.UID
}

// AwaitPodsLeft asks the feed of all proxies to say when no proxy that lives sends connections to
// the pods any more. The answer is PodsLeft, or several, each for some of the pods: at once for
// those that no service has. There is no promise that all pods ever leave: set a deadline.
type AwaitPodsLeft struct{ Pods []LeavingPod }

// PodsLeft says that no proxy that lives sends connections to the pods.
type PodsLeft struct{ Pods []LeavingPod }

// Package pod runs the pods of one node. Start with [Start], tell it what the control plane wants
// by [Pods.Deliver], and it brings the runtime there.
//
//	pods        supervisor: what is wanted, what the runtime holds, runtime events
//	└ <uid>     one pod: a state machine over sandbox, volumes and containers
//	  └ <probe> one probe of one run of a container
//
// A pod actor is level-triggered. Whatever happens (a new version of the pod, a runtime event, a
// probe's verdict, a finished piece of work, a timer) changes its state, and then decide, a pure
// function, says what to do next and statusOf, another, what to report. Work runs off the actor in
// lanes: one for the sandbox, one for the volumes and one for each container, so that a slow pull
// or hook delays nothing else.
//
// Nothing is kept on disk. After a crash the runtime's own records, by their labels, tell what
// runs: pods that are wanted are adopted as they are, the others are stopped and removed. Restart
// counts, back-off and the place of termination messages live in annotations of the containers.
//
// The package never pulls an image, mounts a volume or speaks to the control plane itself: it does
// so through the interfaces of [Config].
package pod

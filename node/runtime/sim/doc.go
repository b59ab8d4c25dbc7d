// Package sim is a container runtime that runs nothing: sandboxes and containers are records that
// start, exit and fail as annotations of the pod tell. Start with [New]. It lets thousands of
// nodes and pods live in one process, and inside a testing/synctest bubble.
//
// What a pod's annotations can ask for, each also per container as "<key>.<container>":
//
//	troupe.run/sim-start-delay   how long a container takes to start ("2s")
//	troupe.run/sim-start-error   the container does not start; the value is the runtime's message
//	troupe.run/sim-exit-after    the container exits by itself this long after its start
//	troupe.run/sim-exit-code     the code it exits with (default 0)
//	troupe.run/sim-stop-after    how long it takes to end on SIGTERM (default at once)
//	troupe.run/sim-pull-delay    how long its image takes to pull
//	troupe.run/sim-pull-error    its image cannot be pulled; the value is the runtime's message
//	troupe.run/sim-exec-code     the code every command run in it exits with
//	troupe.run/sim-memory, -disk, -processes
//	                             what it uses while it runs, as quantities ("100Mi")
//	troupe.run/sim-probe-startup, -readiness, -liveness
//	                             "fail"; "after=3s": fails until then; "until=30s": fails from then
//
// Images whose registry ends with ".invalid" never pull. A [Runtime] is safe for concurrent use
// and keeps no goroutine: what happens later is a timer.
package sim

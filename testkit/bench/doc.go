// Package bench puts load on a cluster and measures what it costs. Its benchmarks produce the
// figures of BENCHMARKS.md: start-up and idleness of the real program, and the rate at which pods
// of Deployments come to run.
//
// Start with [Load], which runs against any cluster that speaks the Kubernetes API, and with
// [Start], which runs troupe as a process whose memory, processor time and writes can be read. Both
// are for one goroutine. Nothing here judges a figure: timed tests fail on busy machines.
package bench

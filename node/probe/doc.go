// Package probe runs one probe of a container: an HTTP request, a TCP connection, a gRPC health
// check or a command, as Kubernetes defines them. Start with [Prober.Probe]; counting, thresholds
// and periods are the business of the pod actors that call it.
//
// A Prober is safe for concurrent use. It never retries and never follows a redirect to another
// host.
package probe

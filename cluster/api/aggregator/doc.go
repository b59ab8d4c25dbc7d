// Package aggregator serves APIs that other servers answer, with the controllers of
// k8s.io/kube-aggregator over the replica. Start with [New], then [Server.Run].
//
// An APIService is a kind like any other (cluster/api/kinds/apiregistration). Those with a Service
// are proxied to one of its endpoints, with the caller's name in headers and the server's certificate
// to vouch for it; the others say which versions are served here, and are registered by the server
// itself. What watches over remote APIs begins with the first of them.
package aggregator

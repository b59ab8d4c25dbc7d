// Package endpoints tells who stands behind a Service: it keeps EndpointSlices for the pods a
// Service selects, mirrors hand-made Endpoints of Services without a selector into slices, and
// keeps the older Endpoints objects. Start with [Spec], the controller of slices, and [V1Spec],
// that of Endpoints; decisions are pure: slices.go, pods.go, v1.go.
//
// An existing slice is changed only where it has to: proxies read the difference. It never touches
// slices of other controllers. Topology hints are not given.
package endpoints

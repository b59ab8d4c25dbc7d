// Package flowcontrol describes the kinds of flowcontrol.apiserver.k8s.io/v1, which say how requests
// share the API server. Start with [Bootstrap], the objects that every cluster has; every other
// file is one kind. Functions are pure and safe for concurrent use.
package flowcontrol

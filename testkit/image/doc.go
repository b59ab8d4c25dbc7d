// Package image builds container images in pure Go, without docker and without a registry: from a
// Go program, compiled to one static file, or from any files. Start with [Build].
//
// The archive is an OCI layout in a tar and deterministic: the same input gives the same bytes. It
// is what `troupe image import` reads. The package starts the go command and nothing else, and is
// safe for concurrent use.
package image

// Package proto is the root of what crosses a process border: the .proto files and the Go code
// generated from them, one sub-package per conversation. Start with nodepb, the conversation
// between the control plane and its nodes. Nothing here has behaviour.
//
// The generated files are committed; "make proto" writes them anew.
package proto

//go:generate sh generate.sh

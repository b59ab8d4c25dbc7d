package kind

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// APIService is the Service in the namespace default that pods reach the API by.
const APIService = "kubernetes"

// Allocators hand out what must be unique in a cluster. A hook gets them as its deps argument.
// Methods are safe for concurrent use; giving back what is not held does nothing.
type Allocators interface {
	// AllocateIP reserves an address of the family for a holder: the one asked for, or a free one
	// when ip is "". Errors wrap [ErrAllocated], [ErrRange] or [ErrFull], or come from keeping record.
	AllocateIP(ctx context.Context, holder networkingv1.ParentReference, family corev1.IPFamily, ip string) (string, error)
	// Own returns the address that is set apart for the Service of this name. Nobody allocates or
	// releases such an address.
	Own(namespace, name string) (ip string, ok bool)
	// ReleaseIP gives an address back.
	ReleaseIP(ip string)
	// AllocateNodePort reserves a port on every node: the one asked for, or a free one when port
	// is 0. Errors as with AllocateIP.
	AllocateNodePort(ctx context.Context, port int32) (int32, error)
	// ReleaseNodePort gives a port back.
	ReleaseNodePort(port int32)
	// DefaultIPFamily is the family of Services that name none.
	DefaultIPFamily() corev1.IPFamily
}

// Why an allocation fails. Allocators wrap these in the sentence that ends up in the user's error
// list: "provided IP is already allocated", "provided port is not in the valid range. The range of
// valid ports is 30000-32767".
var (
	// ErrAllocated means that somebody else holds the value asked for.
	ErrAllocated = errors.New("already allocated")
	// ErrRange means that the value asked for is outside of the range handed out.
	ErrRange = errors.New("not in the valid range")
	// ErrFull means that nothing is left.
	ErrFull = errors.New("range is full")
)

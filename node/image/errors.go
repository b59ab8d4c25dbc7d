package image

import "time"

// The waiting reasons of a container whose image is not there, as Kubernetes calls them.
const (
	ReasonPull                = "ErrImagePull"
	ReasonPullBackOff         = "ImagePullBackOff"
	ReasonNeverPull           = "ErrImageNeverPull"
	ReasonInvalidName         = "InvalidImageName"
	ReasonInspect             = "ImageInspectError"
	ReasonRegistryUnavailable = "RegistryUnavailable"
)

// Error says why a container has no image yet.
type Error struct {
	// Reason is the container's waiting reason, Message its text.
	Reason, Message string
	// After is when it is worth asking again; zero leaves it to the caller.
	After time.Duration
	// Err is what the runtime said, if it was asked.
	Err error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

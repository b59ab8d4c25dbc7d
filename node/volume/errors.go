package volume

import (
	"fmt"

	"github.com/troupe-run/troupe/messages"
)

// ReasonFailedMount is the reason of the Event about a volume that could not be set up.
const ReasonFailedMount = "FailedMount"

// Error says why one volume of a pod could not be set up. Its text is the Event's, as Kubernetes
// words it; errors.Is with messages.ErrNotFound tells a missing source, which may appear later.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// missing is a source that is not there: its text stays Kubernetes', its class ours.
type missing struct{ text string }

func (m missing) Error() string        { return m.text }
func (m missing) Is(target error) bool { return target == messages.ErrNotFound }

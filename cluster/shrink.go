package cluster

import (
	"fmt"

	"github.com/troupe-run/troupe/messages"
)

// shrink makes m the mode of a member that takes the state for itself, in place of a member that is lost if
// it has one's name. turn says that it takes a new start.
func (m *mode) shrink(lost string) (turn bool, err error) {
	switch {
	case m.Kind != modeMembers:
		return false, fmt.Errorf("only one of several can be left alone: this is %s: %w", modeWords[m.Kind], messages.ErrInvalid)
	case m.Move == moveOut && m.Lost == lost:
		return false, nil
	case m.Move == moveOut:
		return false, fmt.Errorf("this member takes the state for itself already: %w", messages.ErrInvalid)
	case m.Move == moveLeave && lost == "":
		return false, fmt.Errorf("%s takes the state for itself; if it is gone for good: --lost %s: %w", m.Keeper, m.Keeper, messages.ErrInvalid)
	case m.Move == moveLeave && lost != m.Keeper:
		return false, fmt.Errorf("it is %s that takes the state for itself, not %s: %w", m.Keeper, lost, messages.ErrInvalid)
	case m.Move != moveLeave && m.Move != "":
		return false, fmt.Errorf("the state is on its way elsewhere (%s): %w", m.Move, messages.ErrInvalid)
	}
	m.Move, m.Keeper, m.Lost = moveOut, "", lost
	return true, nil
}

// leave makes m the mode of a member, me, that gives its part up, for the one that will have the state alone,
// or has it. turn says that it takes a new start.
func (m *mode) leave(me string, call memberCall) (turn bool, err error) {
	move := moveLeave
	if call.Op == opLeft {
		move = moveLeft
	}
	switch {
	case m.Kind != modeMembers:
		return false, fmt.Errorf("%s has the state for itself already: %w", me, messages.ErrInvalid)
	case m.Move == move && m.Keeper == call.Keeper:
		return false, nil
	case m.Move == moveOut && call.Lost != me: // who calls believes it to be gone otherwise
		return false, fmt.Errorf("%s takes the state for itself already: %w", me, messages.ErrInvalid)
	}
	turn = m.Move != moveLeave || move != moveLeave // it stands for the majority already, for another
	m.Move, m.Keeper, m.Lost = move, call.Keeper, ""
	return turn, nil
}

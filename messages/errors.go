package messages

import "errors"

// The error classes every layer shares. Wrap them once per layer with the act and the key
// ("bind default/web to node-1: conflict") and test them with errors.Is; one table in cluster/api
// turns them into HTTP codes and Status reasons.
var (
	// ErrNotFound says the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says a thing of that name exists already.
	ErrExists = errors.New("already exists")
	// ErrConflict says an expectation about a revision did not hold; read again and retry.
	ErrConflict = errors.New("conflict")
	// ErrInvalid says the input is wrong and will stay wrong.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge says a value is above the store's limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnavailable says a dependency does not answer now; the same call may succeed later.
	ErrUnavailable = errors.New("unavailable")
	// ErrGone says a revision is older than what is still kept.
	ErrGone = errors.New("gone")
	// ErrFenced says a newer leader exists; the caller must stop acting.
	ErrFenced = errors.New("fenced by a newer epoch")
	// ErrDamaged says that what was stored is no longer all there; a person must decide.
	ErrDamaged = errors.New("damaged")
)

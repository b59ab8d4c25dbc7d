// Package podspec holds the rules of pod specs, shared by Pod and by every kind with a pod template:
// defaults and validation with Kubernetes' field paths and wordings. Start with [DefaultTemplate]
// and [ValidateTemplate], or [Default] and [Validate] for a bare spec. All functions are pure and
// safe for concurrent use; they may run thousands of times a second, so they take no shortcuts
// through reflection or encoding.
package podspec

// Package link is a node's half of the conversation with the control plane: it keeps the set of
// pods this node should run, with the ConfigMaps and Secrets they refer to, brings every change of
// it to the pod actors, and carries their status, events and token requests back. Start with
// [Start]; what it tells its node is the sealed interface [Message].
//
// A link is one actor. It repairs lost, doubled and late messages by sequence numbers and digests,
// refuses a control plane older than one it has obeyed, reports everything again after a lost
// connection, and keeps a sealed checkpoint on disk from which a node that boots cut off starts
// its pods. Many links may share one connection through a [Hub]; none of them has a goroutine.
//
// The methods of [Link] are safe for concurrent use. Objects handed out are shared and must not be
// changed. The link never decides what to do about a pod: it only says what is wanted.
package link

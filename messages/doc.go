// Package messages holds what the parts of troupe say to each other: keys, subjects, error
// classes and the immutable values actors exchange. Start with [Key], the name of one object in
// the cluster state, and with subjects.go, the only file that spells a NATS subject.
//
// Values of this package are immutable once sent and safe for concurrent use. The package does no
// I/O and imports nothing of troupe but proto.
package messages

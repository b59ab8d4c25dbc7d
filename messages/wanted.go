package messages

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/troupe-run/troupe/proto/nodepb"
)

// ContentHash identifies the content of one object of a node's wanted set: object is its encoding
// without status, status what of a pod's status concerns its node.
func ContentHash(object, status []byte) uint64 {
	d := xxhash.New()
	_, _ = d.Write(object)
	_, _ = d.Write(status)
	return d.Sum64()
}

// EntryDigest is the part one object has in the digest of a node's wanted set. The digest of the
// whole set is the sum of all parts, so that both halves keep it with each change and in any
// order.
func EntryDigest(ref *nodepb.Ref, hash uint64) uint64 {
	b := make([]byte, 0, 128)
	b = append(b, byte(ref.GetKind()))
	for _, s := range []string{ref.GetNamespace(), ref.GetName(), ref.GetUid()} {
		b = append(b, s...)
		b = append(b, 0)
	}
	return xxhash.Sum64(binary.BigEndian.AppendUint64(b, hash))
}

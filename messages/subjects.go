package messages

import (
	"fmt"
	"strconv"
	"strings"
)

// StateBucket is the JetStream key-value bucket that plays etcd's role, EventsBucket the one that
// keeps Kubernetes Event objects off the state path.
const (
	StateBucket  = "state"
	EventsBucket = "events"
)

// LeaseBucket is the bucket in memory by which several members agree on which of them leads.
const LeaseBucket = "lease"

// ChangeStream is the JetStream stream that keeps the change subjects by age and size, so that
// integrations resume where they were.
const ChangeStream = "changes"

// EscapeToken turns any string into one NATS subject token that is also legal in a KV key.
// Letters, digits, '_' and '-' stand for themselves, '.' becomes '/', every other byte '=HH', the
// empty string '_' and a lone '_' '=5F'. The mapping is injective; [UnescapeToken] reverts it.
func EscapeToken(s string) string {
	switch s {
	case "":
		return "_"
	case "_":
		return "=5F"
	}
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = isPlain(s[i])
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isPlain(c):
			b.WriteByte(c)
		case c == '.':
			b.WriteByte('/')
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// UnescapeToken reverts [EscapeToken]. It returns an error wrapping [ErrInvalid] for every token
// that EscapeToken would not have written.
func UnescapeToken(t string) (string, error) {
	if t == "_" {
		return "", nil
	}
	var b strings.Builder
	b.Grow(len(t))
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case isPlain(c):
			b.WriteByte(c)
		case c == '/':
			b.WriteByte('.')
		case c == '=' && i+2 < len(t):
			v, err := strconv.ParseUint(t[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("unescape %q: %w", t, ErrInvalid)
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return "", fmt.Errorf("unescape %q: %w", t, ErrInvalid)
		}
	}
	s := b.String()
	if EscapeToken(s) != t {
		return "", fmt.Errorf("unescape %q: %w", t, ErrInvalid)
	}
	return s, nil
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func keyTokens(k Key) string {
	return EscapeToken(k.Group) + "." + EscapeToken(k.Resource.Resource) + "." +
		EscapeToken(k.Namespace) + "." + EscapeToken(k.Name)
}

// StateSubject is the subject of one object in a state bucket: $KV.<bucket>.<group>.<resource>.<namespace>.<name>.
func StateSubject(bucket string, k Key) string { return "$KV." + bucket + "." + keyTokens(k) }

// StateAll selects every record of a state bucket.
func StateAll(bucket string) string { return "$KV." + bucket + ".>" }

// StateRecord is the subject of a record that the store keeps for itself, such as its epoch.
func StateRecord(bucket, name string) string { return "$KV." + bucket + "." + EscapeToken(name) }

// ParseStateSubject reverts [StateSubject]; it returns an error wrapping [ErrInvalid] for a
// subject of another shape.
func ParseStateSubject(subject string) (bucket string, k Key, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 6 || t[0] != "$KV" {
		return "", Key{}, fmt.Errorf("parse state subject %q: %w", subject, ErrInvalid)
	}
	k, err = parseKey(t[2:])
	return t[1], k, err
}

func parseKey(t []string) (Key, error) {
	var out [4]string
	for i := range out {
		s, err := UnescapeToken(t[i])
		if err != nil {
			return Key{}, err
		}
		out[i] = s
	}
	return Key{Resource{out[0], out[1]}, out[2], out[3]}, nil
}

// Change is the subject on which each write of an object appears:
// troupe.<region>.changes.<group>.<resource>.<namespace>.<name>.
func Change(region string, k Key) string { return ChangePrefix(region) + keyTokens(k) }

// ChangePrefix is the constant head, with its trailing dot, of all change subjects of a region.
func ChangePrefix(region string) string { return "troupe." + EscapeToken(region) + ".changes." }

// ParseChange reverts [Change]; it returns an error wrapping [ErrInvalid] for another shape.
func ParseChange(subject string) (region string, k Key, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 7 || t[0] != "troupe" || t[2] != "changes" {
		return "", Key{}, fmt.Errorf("parse change subject %q: %w", subject, ErrInvalid)
	}
	if region, err = UnescapeToken(t[1]); err != nil {
		return "", Key{}, err
	}
	k, err = parseKey(t[3:])
	return region, k, err
}

// ChangesFilter selects change subjects; an empty group-and-resource or namespace means all.
// Cluster-scoped objects have the namespace token "_" and match only an empty namespace here.
func ChangesFilter(region string, r *Resource, namespace string) string {
	group, resource, ns := "*", "*", "*"
	if r != nil {
		group, resource = EscapeToken(r.Group), EscapeToken(r.Resource)
	}
	if namespace != "" {
		ns = EscapeToken(namespace)
	}
	return ChangePrefix(region) + group + "." + resource + "." + ns + ".*"
}

func nodePrefix(region, node string) string {
	return "troupe." + EscapeToken(region) + ".node." + EscapeToken(node) + "."
}

// NodeAll selects every subject of one node: what its connection may publish and subscribe to.
func NodeAll(region, node string) string { return nodePrefix(region, node) + ">" }

// NodeDown carries what the control plane tells a node: deltas of its wanted set.
func NodeDown(region, node string) string { return nodePrefix(region, node) + "down" }

// NodeUp carries what a node reports; what is one lower-case token such as "hello" or "heartbeat".
func NodeUp(region, node, what string) string { return nodePrefix(region, node) + "up." + what }

// NodeUpAll selects everything any node of the region reports.
func NodeUpAll(region string) string { return "troupe." + EscapeToken(region) + ".node.*.up.>" }

// NodesUp selects one kind of report of all nodes of the region.
func NodesUp(region, what string) string {
	return "troupe." + EscapeToken(region) + ".node.*.up." + what
}

// ParseNodeUp returns the node and the kind of report of a [NodeUp] subject.
func ParseNodeUp(subject string) (node, what string, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 6 || t[0] != "troupe" || t[2] != "node" || t[4] != "up" {
		return "", "", fmt.Errorf("parse node subject %q: %w", subject, ErrInvalid)
	}
	node, err = UnescapeToken(t[3])
	return node, t[5], err
}

// NodeStream is where a node accepts byte streams (its HTTP surface: logs, exec, attach, port-forward).
func NodeStream(region, node string) string { return nodePrefix(region, node) + "stream" }

// ProxyDeltas carries service and endpoint deltas to the proxies of all nodes.
func ProxyDeltas(region string) string { return "troupe." + EscapeToken(region) + ".proxy.deltas" }

// ProxySnapshot answers a proxy that asks for the whole set.
func ProxySnapshot(region string) string { return "troupe." + EscapeToken(region) + ".proxy.snapshot" }

// Backup is where a control plane hands out backups, as byte streams.
func Backup(region string) string { return "troupe." + EscapeToken(region) + ".control.backup" }

// Rotation is where a control plane changes its sealing key and tells how far it is, as a byte stream.
func Rotation(region string) string { return "troupe." + EscapeToken(region) + ".control.rotation" }

// Members is where every member of a control plane answers what concerns all of them.
func Members(region string) string { return "troupe." + EscapeToken(region) + ".control.members" }

// Member is where the named member of a control plane answers; see [Members].
func Member(region, name string) string { return Members(region) + "." + EscapeToken(name) }

// Fenced is a subject that nobody publishes to: a bucket that listens there takes no writes.
func Fenced(region, bucket string) string {
	return "troupe." + EscapeToken(region) + ".fenced." + EscapeToken(bucket)
}

// StateWrites is where the member that writes a bucket takes the writes of others.
func StateWrites(region, bucket string) string {
	return "troupe." + EscapeToken(region) + ".control.state." + EscapeToken(bucket) + ".write"
}

// StateReads is where the member that writes a bucket tells others how far it is.
func StateReads(region, bucket string) string {
	return "troupe." + EscapeToken(region) + ".control.state." + EscapeToken(bucket) + ".read"
}

// ActorInbox is where the actors of one process receive what actors of other processes send.
func ActorInbox(region, address string) string {
	return "troupe." + EscapeToken(region) + ".actors." + EscapeToken(address) + ".inbox"
}

// ActorBounce is the reply subject of a message from the actor id at address: NATS answers there
// when nobody listens.
func ActorBounce(region, address, id string) string {
	return "troupe." + EscapeToken(region) + ".actors." + EscapeToken(address) + ".bounce." + EscapeToken(id)
}

// ActorBounces selects every bounce of one process.
func ActorBounces(region, address string) string {
	return "troupe." + EscapeToken(region) + ".actors." + EscapeToken(address) + ".bounce.*"
}

// ParseActorBounce returns the actor id of an [ActorBounce] subject.
func ParseActorBounce(subject string) (id string, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 6 || t[2] != "actors" || t[4] != "bounce" {
		return "", fmt.Errorf("parse bounce subject %q: %w", subject, ErrInvalid)
	}
	return UnescapeToken(t[5])
}

// StreamUp is where a byte stream's dialer writes to its listener: base is the subject that was
// dialed, such as a [NodeStream], id names the stream. [StreamDown] is the way back.
func StreamUp(base, id string) string { return base + "." + id + ".up" }

// StreamDown is where a byte stream's listener writes to its dialer.
func StreamDown(base, id string) string { return base + "." + id + ".down" }

// ParseStreamUp reverts [StreamUp]; it returns an error wrapping [ErrInvalid] for another shape.
func ParseStreamUp(subject string) (base, id string, err error) {
	head, ok := strings.CutSuffix(subject, ".up")
	at := strings.LastIndexByte(head, '.')
	if !ok || at < 0 {
		return "", "", fmt.Errorf("parse stream subject %q: %w", subject, ErrInvalid)
	}
	return head[:at], head[at+1:], nil
}

// NodeStreamAll is the base on which one process listens for the streams of all nodes of a region;
// [ParseNodeStream] tells which node a stream is for.
func NodeStreamAll(region string) string { return "troupe." + EscapeToken(region) + ".node.*.stream" }

// ParseNodeStream returns the node of a [NodeStream] subject.
func ParseNodeStream(subject string) (node string, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 5 || t[0] != "troupe" || t[2] != "node" || t[4] != "stream" {
		return "", fmt.Errorf("parse node stream subject %q: %w", subject, ErrInvalid)
	}
	return UnescapeToken(t[3])
}

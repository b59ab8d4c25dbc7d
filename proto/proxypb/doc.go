// Package proxypb is the conversation between the control plane and the proxies of all nodes, as
// protobuf messages. Start with [Delta]; proxy.proto says what is sent when. Messages are
// immutable once sent; nothing here has behaviour.
package proxypb

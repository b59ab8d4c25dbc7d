// Package stream carries byte streams over NATS: [Dial] and [Listen] give a net.Conn and a
// net.Listener on a subject, so that HTTP with its upgrades (logs, exec, port-forward) reaches a
// node through the one connection the node has opened itself. Start with [Dial].
//
// A stream keeps order, has flow control by credit in each direction (a slow reader stops its
// writer; nobody buffers without bound), half-close, deadlines and keepalive. NATS delivers at
// most once: frames are numbered, and a lost one ends the stream with an error instead of passing
// on a hole. Dialing a subject nobody listens on fails at once.
//
// Connections and listeners are safe for concurrent use. The NATS connection stays the caller's;
// its end ends all streams on it.
package stream

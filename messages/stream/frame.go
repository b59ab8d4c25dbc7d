package stream

import (
	"encoding/binary"
	"fmt"

	"github.com/troupe-run/troupe/messages"
)

// frameKind is the first byte of each NATS message of a stream. The next four are the frame's
// number in its direction, big-endian; the rest is the body.
type frameKind byte

const (
	frameOpen   frameKind = 'O' // dialer's first: body is its window
	frameAccept frameKind = 'A' // listener's first: body is its window
	frameData   frameKind = 'D' // body is data
	frameCredit frameKind = 'C' // body is how much more the peer may send
	frameEnd    frameKind = 'E' // no more data from this side
	frameClose  frameKind = 'X' // this side neither sends nor reads any more
	framePing   frameKind = 'P' // this side is alive
	frameReset  frameKind = 'R' // this side knows no such stream, or gave it up: body says why; not numbered
)

const (
	headerSize = 5
	// maxFrame bounds a frame, and with it what one write holds back others on the connection.
	maxFrame = 64 << 10
	// window is how much a side takes without having read it.
	window = 512 << 10
	// frameCost is charged for each data frame beside its bytes, so that a window of tiny frames
	// is no more memory than one of large ones.
	frameCost = 256
)

func encode(kind frameKind, seq uint32, body []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(body))
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], seq)
	return append(b, body...)
}

func decode(b []byte) (kind frameKind, seq uint32, body []byte, err error) {
	if len(b) < headerSize {
		return 0, 0, nil, fmt.Errorf("stream frame of %d bytes: %w", len(b), messages.ErrInvalid)
	}
	return frameKind(b[0]), binary.BigEndian.Uint32(b[1:]), b[headerSize:], nil
}

func encodeCredit(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func decodeCredit(body []byte) int {
	if len(body) != 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(body))
}

// cost is what a data frame takes from the window.
func cost(n int) int { return n + frameCost }

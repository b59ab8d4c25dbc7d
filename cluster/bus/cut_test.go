package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/cluster/bus"
)

// awaitStatus waits for a connection to become so.
func awaitStatus(t *testing.T, nc *nats.Conn, ch <-chan nats.Status, want nats.Status) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for nc.Status() != want {
		select {
		case <-ch:
		case <-limit:
			t.Fatalf("the connection is %s, not %s", nc.Status(), want)
		}
	}
}

func TestCutTakesOneNodeOff(t *testing.T) {
	t.Parallel()
	b := start(t, bus.Config{})
	one, err := b.NodeConn("n1")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other, err := b.NodeConn("n2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	news := one.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	restore := b.CutNode("n1")
	awaitStatus(t, one, news, nats.RECONNECTING)
	if nc, err := b.NodeConn("n1"); err == nil {
		nc.Close()
		t.Error("a node that is cut off connects")
	}
	if other.Status() != nats.CONNECTED || b.Conn().Status() != nats.CONNECTED {
		t.Errorf("others are %s and %s", other.Status(), b.Conn().Status())
	}
	if one.Status() == nats.CONNECTED {
		t.Error("it came back while it was cut off")
	}
	restore()
	restore()
	awaitStatus(t, one, news, nats.CONNECTED)
	if err := one.FlushTimeout(5 * time.Second); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

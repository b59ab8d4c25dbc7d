package api_test

import (
	"context"
	"net"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/troupe-run/troupe/cluster/api"
)

// TestSecondServerWritesNothing starts another server on the state that a first one has left.
func TestSecondServerWritesNothing(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	eventually(t, func() bool { // until admin gathers what edit gathers from view
		role, err := c.client.RbacV1().ClusterRoles().Get(ctx, "admin", metav1.GetOptions{})
		return err == nil && holds(role.Rules, "pods/log") && holds(role.Rules, "rolebindings")
	})
	c.stop()
	before := c.store.Revision()
	c.again(t)
	if _, err := c.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	c.stop()
	if after := c.store.Revision(); after != before {
		t.Errorf("revision went from %d to %d", before, after)
	}
}

// again ends the server, if that is not done, and starts another one on the same store.
func (c *cluster) again(t *testing.T, change ...func(*api.Config)) {
	t.Helper()
	c.stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.cfg
	cfg.Listener = ln
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	}
	for _, fn := range change {
		fn(&cfg)
	}
	c.url = "https://" + ln.Addr().String()
	c.Server = must(api.New(cfg))
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(run) }()
	c.stop = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(c.stop)
	<-c.Ready()
	c.client = must(kubernetes.NewForConfig(c.LoopbackConfig()))
}

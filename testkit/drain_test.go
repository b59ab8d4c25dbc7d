package testkit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
	"github.com/troupe-run/troupe/proxy/feed"
)

// slowProxy is a proxy whose rules follow the control plane's word after a while.
type slowProxy struct {
	mu    sync.Mutex
	knows map[string]int // endpoints by service
	delay time.Duration  // negative: never
}

func (c *Cluster) slowProxy(node string) *slowProxy {
	p := &slowProxy{knows: make(map[string]int)}
	_, err := c.control.Stage().Spawn(feed.Props(feed.Config{Conn: c.conn, Region: c.control.Region(), Node: node, Log: c.opts.log, Deliver: func(u feed.Update) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.delay < 0 {
			return
		}
		time.AfterFunc(p.delay, func() { p.apply(c, node, u) })
	}}), "slow-proxy-"+node)
	c.must(err)
	synctest.Wait()
	return p
}

func (p *slowProxy) apply(c *Cluster, node string, u feed.Update) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range u.Services {
		p.knows[name.String()] = 0
		if s != nil {
			for _, e := range s.Endpoints {
				if e.Ready {
					p.knows[name.String()]++
				}
			}
		}
	}
	data, err := proto.Marshal(&proxypb.Applied{Source: u.Source, Revision: u.Revision})
	if err == nil {
		err = c.conn.Publish(messages.NodeUp(c.control.Region(), node, "applied"), data)
	}
	c.check("report", err)
}

func (p *slowProxy) endpoints(service string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knows[service]
}

func (p *slowProxy) become(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// TestContainersEndAfterTheRulesHaveLetThemGo drains pods in a whole cluster.
func TestContainersEndAfterTheRulesHaveLetThemGo(t *testing.T) {
	Virtual(t, func(t *testing.T, c *Cluster) {
		c.Apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: web}}
spec: {containers: [{name: web, image: "example/web:v1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: web}}
spec: {containers: [{name: web, image: "example/web:v1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec: {containers: [{name: web, image: "example/web:v1"}]}
`)
		for _, pod := range []string{"one", "two", "alone"} {
			c.WaitFor("Pod "+pod, Ready)
		}
		running := func() int {
			return c.Node("node-0").Runtime().Containers()[cri.ContainerState_CONTAINER_RUNNING]
		}
		p := c.slowProxy("node-0")
		c.Advance(time.Second)
		if n := p.endpoints("default/web"); n != 2 || running() != 3 {
			t.Fatalf("%d endpoints, %d containers", n, running())
		}

		p.become(2 * time.Second)
		c.Delete("Pod one")
		c.Delete("Pod alone")
		c.Advance(1900 * time.Millisecond)
		if n := p.endpoints("default/web"); n != 2 || running() != 2 {
			t.Errorf("before the rules change: %d endpoints, %d containers run, want 2 and 2", n, running())
		}
		c.Advance(time.Second)
		if n := p.endpoints("default/web"); n != 1 || running() != 1 {
			t.Errorf("after the rules changed: %d endpoints, %d containers run, want 1 and 1", n, running())
		}

		p.become(-1)
		c.Delete("Pod two")
		c.Advance(4900 * time.Millisecond)
		if running() != 1 {
			t.Error("a pod ended though the proxy had time left")
		}
		c.Advance(time.Second)
		if running() != 0 {
			t.Error("a silent proxy keeps a pod from ending")
		}
		c.WaitFor("Pod two", Gone)
	})
}

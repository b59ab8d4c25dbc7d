package testkit

import (
	"context"

	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/node/runtime/sim"
)

// simulated is what is known of a node, whether its agent runs or not.
type simulated struct {
	name    string
	labels  map[string]string
	machine *sim.Runtime // what ran on it when the cluster was last restarted
	stopped bool
}

// find returns what is known of a node, nil when there is none of that name.
func (c *Cluster) find(name string) *simulated {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// known is find for a node that has to be stopped or not.
func (c *Cluster) known(name string, stopped bool) *simulated {
	c.t.Helper()
	n := c.find(name)
	switch {
	case n == nil:
		c.t.Fatalf("there is no node %s", name)
	case n.stopped && !stopped:
		c.t.Fatalf("node %s is stopped", name)
	case !n.stopped && stopped:
		c.t.Fatalf("node %s is not stopped", name)
	}
	return n
}

// Node gives a simulated node by name, to look into it or to make its runtime fail. It waits until
// the node has a runtime, which it gets when the control plane has registered it.
//
//	c.Node("node-0").Runtime().Down(errors.New("connection refused"))
func (c *Cluster) Node(name string) *node.SimNode {
	c.t.Helper()
	n := c.sim.Node(c.known(name, false).name)
	c.Until(name+" has a runtime", func() bool { return n.Runtime() != nil })
	return n
}

// AddNode starts one more simulated node, with labels beside those every node has.
func (c *Cluster) AddNode(name string, labels map[string]string) {
	c.t.Helper()
	if c.find(name) != nil {
		c.t.Fatalf("there is a node %s already", name)
	}
	c.nodes = append(c.nodes, &simulated{name: name, labels: labels})
	c.must(c.sim.Add(name, labels))
}

// StopNode ends a node's agent: the control plane hears nothing of it any more. Its containers run
// on, as they do when an agent dies or its network is cut.
func (c *Cluster) StopNode(name string) {
	c.t.Helper()
	c.stop(name, func(ctx context.Context, n *node.SimNode) error { return n.Close(ctx) })
}

// PowerOff ends a node's agent and all its containers, as a power cut does.
func (c *Cluster) PowerOff(name string) {
	c.t.Helper()
	c.stop(name, func(ctx context.Context, n *node.SimNode) error { return n.PowerOff(ctx) })
}

func (c *Cluster) stop(name string, how func(context.Context, *node.SimNode) error) {
	c.t.Helper()
	n := c.known(name, false)
	ctx, cancel := context.WithTimeout(c.t.Context(), stopWait)
	defer cancel()
	c.must(how(ctx, c.sim.Node(name)))
	n.stopped = true
}

// StartNode starts the agent of a node that was stopped or powered off. Containers that run are
// adopted.
func (c *Cluster) StartNode(name string) {
	c.t.Helper()
	n := c.known(name, true)
	c.must(c.sim.Add(name, n.labels))
	n.stopped = false
}

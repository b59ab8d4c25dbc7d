package testkit

import (
	"context"

	"github.com/troupe-run/troupe/node"
)

// Node gives a simulated node by name, to make its runtime fail.
func (c *Cluster) Node(name string) *node.SimNode {
	c.t.Helper()
	n := c.sim.Node(name)
	if n == nil {
		c.t.Fatalf("there is no node %s", name)
	}
	return n
}

// AddNode starts one more simulated node, with labels beside those every node has.
func (c *Cluster) AddNode(name string, labels map[string]string) {
	c.t.Helper()
	if c.sim.Node(name) != nil {
		c.t.Fatalf("there is a node %s already", name)
	}
	c.added[name] = labels
	c.must(c.sim.Add(name, labels))
}

// StopNode ends a node's agent: the control plane hears nothing of it any more. Its containers run
// on, as they do when an agent dies or its network is cut.
func (c *Cluster) StopNode(name string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), stopWait)
	defer cancel()
	c.must(c.Node(name).Close(ctx))
}

// StartNode starts the agent of a node that was stopped or powered off. Containers that run are
// adopted.
func (c *Cluster) StartNode(name string) {
	c.t.Helper()
	c.Node(name) // fails when there is none
	c.must(c.sim.Add(name, nil))
}

// PowerOff ends a node and all its containers, as a power cut does.
func (c *Cluster) PowerOff(name string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), stopWait)
	defer cancel()
	c.must(c.Node(name).PowerOff(ctx))
}

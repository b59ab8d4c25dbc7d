package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/stage"
)

// Config of a [Link].
type Config struct {
	// Conn is the node's connection to the bus, allowed its own subjects only. Required unless Hub
	// is set.
	Conn *nats.Conn
	// Hub shares one connection between many links; nil makes one for this link on Conn.
	Hub *Hub
	// Region is the region's name. Required.
	Region string
	// Node is the object the agent registers: name, labels, annotations, taints and first status.
	// Required, with a name.
	Node *corev1.Node
	// DataDir is the folder of the checkpoint and its key; empty keeps nothing on disk.
	DataDir string
	// Stage is the system the link's actor lives in. Required.
	Stage *stage.System
	// Deliver hands messages over to the node's own actors. It runs inside the link and must not
	// block. Required.
	Deliver func(Message)
	// Interval between heartbeats; 0 means one second.
	Interval time.Duration
	// Log is the link's logger; nil discards.
	Log *slog.Logger
}

// Check reports everything that is wrong with the config.
func (c *Config) Check() error {
	var errs []error
	if c.Conn == nil && c.Hub == nil {
		errs = append(errs, errors.New("link: a connection or a hub is required"))
	}
	if c.Region == "" {
		errs = append(errs, errors.New("link: a region is required"))
	}
	if c.Node == nil || c.Node.Name == "" {
		errs = append(errs, errors.New("link: a node with a name is required"))
	}
	if c.Stage == nil || c.Deliver == nil {
		errs = append(errs, errors.New("link: a stage and a receiver are required"))
	}
	return errors.Join(errs...)
}

// Link is a running link. It ends with Close.
type Link struct {
	cfg    Config
	hub    *Hub
	own    bool // the hub is ours to close
	pid    *actor.PID
	set    *wantedSet
	tokens *tokenDesk
}

// Start is [New] and [Link.Begin] in one, for a receiver that does not use the link itself.
func Start(cfg Config) (*Link, error) {
	l, err := New(cfg)
	if err == nil {
		l.Begin()
	}
	return l, err
}

// New opens a link that says nothing yet: what is reported before it begins is kept.
func New(cfg Config) (*Link, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	cfg.Log = cfg.Log.With("actor", "link", "node", cfg.Node.Name)
	incarnation := rand.Uint64()
	l := &Link{cfg: cfg, hub: cfg.Hub, set: newWantedSet(cfg.DataDir != "")}
	if l.hub == nil {
		h, err := NewHub(cfg.Conn, cfg.Region)
		if err != nil {
			return nil, fmt.Errorf("link %s: %w", cfg.Node.Name, err)
		}
		l.hub, l.own = h, true
	}
	l.tokens = newTokenDesk(l.hub, cfg.Node.Name, incarnation)
	var disk *checkpointFile
	if cfg.DataDir != "" {
		var err error
		if disk, err = openCheckpoint(filepath.Join(cfg.DataDir, "link")); err != nil {
			return nil, errors.Join(fmt.Errorf("link %s: %w", cfg.Node.Name, err), l.closeHub())
		}
	}
	mem := newMemory(cfg.Node)
	props := stage.Props(func() actor.Actor {
		return &link{
			cfg: cfg, log: cfg.Log, hub: l.hub, set: l.set, tokens: l.tokens, disk: disk, mem: mem,
			incarnation: incarnation,
		}
	})
	pid, err := cfg.Stage.Spawn(props, "link-"+cfg.Node.Name)
	if err != nil {
		return nil, errors.Join(err, l.closeHub())
	}
	l.pid = pid
	return l, nil
}

// Begin loads the checkpoint, delivers what it holds, and begins the conversation. It does not
// wait for any of that; the control plane need not be reachable.
func (l *Link) Begin() { l.cfg.Stage.Send(l.pid, begin{}) }

// Close ends the conversation: the control plane will miss the heartbeats. Pods are not touched.
// It returns when the actor is gone and the last checkpoint is on disk, or with ctx.
func (l *Link) Close(ctx context.Context) error {
	return errors.Join(l.cfg.Stage.Stop(ctx, l.pid), l.closeHub())
}

func (l *Link) closeHub() error {
	if !l.own {
		return nil
	}
	return l.hub.Close()
}

// ConfigMap returns a ConfigMap that a pod of this node refers to; ok is false when it does not
// exist. The lookup never blocks.
func (l *Link) ConfigMap(namespace, name string) (cm *corev1.ConfigMap, ok bool) {
	return l.set.configMap(namespace, name)
}

// Secret returns a Secret that a pod of this node refers to; ok is false when it does not exist.
func (l *Link) Secret(namespace, name string) (s *corev1.Secret, ok bool) {
	return l.set.secret(namespace, name)
}

// Token asks the control plane for a service account token bound to a pod of this node. It asks
// again until it is answered or ctx ends.
func (l *Link) Token(ctx context.Context, req TokenRequest) (Token, error) {
	return l.tokens.request(ctx, req)
}

// ReportPod tells the control plane a pod's newest status. It never blocks; the newest report of
// each pod is repeated until it is confirmed.
func (l *Link) ReportPod(r PodReport) { l.cfg.Stage.Send(l.pid, r) }

// ReportNode tells the control plane the node's newest status, under the same promise.
func (l *Link) ReportNode(status corev1.NodeStatus) { l.cfg.Stage.Send(l.pid, nodeStatus{status}) }

// Record asks for a Kubernetes Event. It never blocks and may be lost while cut off.
func (l *Link) Record(e Event) { l.cfg.Stage.Send(l.pid, e) }

package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/nodes"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/proxyfeed"
	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/actors/scheduler"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/api/kinds"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/member"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/stream"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// observersGroup is the organization in the certificates of clients that may only read changes.
const observersGroup = "troupe:observers"

// Cluster is a running control plane.
type Cluster struct {
	cfg        Config
	authority  *auth.Authority
	bus        *bus.Bus
	state      *state.Store
	events     *state.Store
	api        *api.Server
	stage      *stage.System
	beats      *nodes.Beats
	books      *resourcequota.Books
	member     atomic.Pointer[member.Member] // nil unless the state is shared
	leading    leading
	growing    growing
	membership membership
	services   []net.Listener // see serveControl
	failed     chan error
	serving    sync.WaitGroup
	stopAPI    context.CancelFunc
	stopSelf   context.CancelFunc
	acting     atomic.Bool // scheduler and controllers are started
}

// Start starts a control plane and returns when its API is ready. On error nothing is left running.
// ctx bounds the start only; the cluster runs until [Cluster.Close].
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.complete()
	c := &Cluster{cfg: cfg, failed: make(chan error, 1), stopAPI: func() {}, stopSelf: func() {},
		stage: stage.New(stage.Config{Log: cfg.Log}), beats: nodes.NewBeats()}
	c.membership.changed, c.membership.turned = make(chan struct{}), make(chan struct{})
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []func(context.Context) error{c.openFolder, c.startBus, c.moveState, c.openState, c.elect, c.startAPI, c.startLeading, c.startMembership} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close ends the control plane, its actors first. Nodes and their pods are not touched.
func (c *Cluster) Close(ctx context.Context) error {
	errs := []error{c.stopJoins()}
	if m := c.member.Load(); m != nil {
		errs = append(errs, m.Close(ctx)) // which hands over
	}
	c.leading.mu.Lock()
	c.leading.ready = false
	errs = append(errs, c.halt(ctx))
	c.leading.mu.Unlock()
	errs = append(errs, c.stage.Shutdown(ctx))
	c.stopAPI()
	c.serving.Wait()
	if c.api == nil { // the server closes it otherwise
		for _, l := range append(c.cfg.Also, c.cfg.Listener) {
			errs = append(errs, l.Close())
		}
	}
	for _, s := range []*state.Store{c.state, c.events} {
		if s != nil {
			errs = append(errs, s.Close(ctx))
		}
	}
	if c.bus != nil {
		errs = append(errs, c.bus.Close(ctx))
	}
	return errors.Join(errs...)
}

// Failed gets the error that ended the API server on its own.
func (c *Cluster) Failed() <-chan error { return c.failed }

// openFolder finds out how the state is kept, brings streams that are on their way into place, and opens the
// authority.
func (c *Cluster) openFolder(context.Context) error {
	m, err := keepMode(c.cfg.DataDir, c.cfg.mode())
	if err != nil {
		return err
	}
	if c.cfg.DataDir != "" {
		if m, err = arrange(c.cfg.DataDir, m); err != nil {
			return err
		}
	}
	if m.Kind == modeMembers && m.Member != c.cfg.Member {
		return fmt.Errorf("the data folder is that of member %s, not of %s; start it with --node-name %s: %w", m.Member, c.cfg.Member, m.Member, messages.ErrInvalid)
	}
	c.membership.mode = m
	c.cfg.MemberAddr, c.cfg.Peers = m.Addr, m.Peers
	if c.authority, err = auth.Open(auth.Config{Dir: keysDir(c.cfg.DataDir), Clock: c.cfg.Clock}); err == nil {
		c.cfg.Step("keys and certificates", "")
	}
	return err
}

func keysDir(dataDir string) string { return below(dataDir, "keys") }

func natsDir(dataDir string) string { return below(dataDir, "nats") }

// RemoveStaging removes what a cluster that was killed has left in memory. Whoever deletes a data
// folder calls it.
func RemoveStaging(dataDir string) error { return bus.RemoveStaging(natsDir(dataDir)) }

// below is a folder in the data folder, or none when nothing is kept.
func below(dataDir, name string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, name)
}

func (c *Cluster) startBus(ctx context.Context) (err error) {
	cfg := bus.Config{DataDir: natsDir(c.cfg.DataDir), Region: c.cfg.Region, ListenAddr: c.cfg.NATSAddr, Auth: identify, Outside: c.cfg.Outside, Log: c.cfg.Log}
	if c.cfg.NATSAddr != "" {
		host, _, err := net.SplitHostPort(c.cfg.NATSAddr)
		if err != nil {
			return fmt.Errorf("NATS address %q: %w", c.cfg.NATSAddr, err)
		}
		if cfg.TLS, err = c.authority.BusServerTLS(host, "localhost"); err != nil {
			return err
		}
	}
	if c.cfg.MemberAddr != "" {
		cfg.Members = &bus.Members{Name: c.cfg.Member, ListenAddr: c.cfg.MemberAddr, Peers: c.cfg.Peers}
		if cfg.Members.TLS, err = c.authority.MemberTLS(c.cfg.Member); err != nil {
			return err
		}
	}
	if c.bus, err = bus.Start(ctx, cfg); err == nil {
		c.cfg.Step("nats", c.bus.ClientURL())
	}
	return err
}

// startMembership answers what is asked of members, and lets others join if they shall.
func (c *Cluster) startMembership(ctx context.Context) error {
	if err := c.serveMembers(ctx); err != nil {
		return err
	}
	if g := c.growth(); g != nil {
		return c.serveJoins(g.Addr)
	}
	return nil
}

// identify lets holders of an observer's certificate read changes.
func identify(l bus.Login) (bus.Identity, error) {
	if l.TLS != nil && len(l.TLS.VerifiedChains) > 0 {
		subject := l.TLS.PeerCertificates[0].Subject
		if slices.Contains(subject.Organization, observersGroup) {
			return bus.Identity{Role: bus.RoleObserver, Name: subject.CommonName}, nil
		}
	}
	return bus.Identity{}, errors.New("unknown client")
}

// ObserverTLS makes what a program on the machine of the data folder connects to NATS with in
// order to read changes as user.
func ObserverTLS(dataDir, user string) (*tls.Config, error) {
	a, err := auth.Open(auth.Config{Dir: keysDir(dataDir)})
	if err != nil {
		return nil, err
	}
	return a.ClientTLS(user, observersGroup)
}

func (c *Cluster) startAPI(ctx context.Context) (err error) {
	c.books = resourcequota.NewBooks(c.state, c.cfg.Clock)
	c.api, err = api.New(api.Config{
		Store: c.state, Events: c.events, Kinds: kinds.All(),
		Authority: c.authority, Listener: c.cfg.Listener, Also: c.cfg.Also, Insecure: c.cfg.Insecure, Dial: c.cfg.Dial, Advertise: c.cfg.Advertise,
		NodeDial: c.dialNode, Heartbeats: c.beats, ServiceCIDR: c.cfg.ServiceCIDR, DNS: c.cfg.dnsAddress(), ClusterDomain: c.cfg.Domain, Version: c.cfg.Version, Books: c.books,
		Authentication: c.cfg.Authentication, ClientCA: c.cfg.ClientCA, TLSCert: c.cfg.TLSCert, TLSKey: c.cfg.TLSKey, Audit: c.cfg.Audit,
		Checks: map[string]func() error{"nats": c.bus.Healthy, "state": c.state.Healthy}, Components: c.components(),
		Clock: c.cfg.Clock, Log: c.cfg.Log,
	})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopAPI = stop
	c.serving.Go(func() {
		if err := c.api.Run(run); err != nil {
			c.failed <- err
		}
	})
	select {
	case <-c.api.Ready():
		c.cfg.Step("kubernetes api", c.URL())
		return nil
	case err := <-c.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cluster) dialNode(ctx context.Context, node string) (net.Conn, error) {
	return stream.Dial(ctx, c.bus.Conn(), messages.NodeStream(c.cfg.Region, node))
}

// startActors spawns what converges the cluster. But for the feed of proxies, which others are told
// of, the order does not matter to them.
func (c *Cluster) startActors() error {
	proxies, err := c.spawn(proxyfeed.Props(proxyfeed.Config{
		Conn: c.bus.Conn(), Region: c.cfg.Region, Reader: c.state, Feed: c.state, Log: c.cfg.Log}), "proxyfeed")
	if err != nil {
		return err
	}
	props := map[string]*actor.Props{"nodes": nodes.Props(c.nodesConfig(proxies))}
	if !slices.Contains(c.cfg.Off, schedulerName) {
		props[schedulerName] = scheduler.Props(c.deps("system:kube-scheduler", "default-scheduler"), c.cfg.random())
	}
	for _, spec := range specs(c.identity(), c.books) {
		name := spec(controller.Deps{}).Name
		if slices.Contains(c.cfg.Off, name) {
			continue
		}
		deps := c.deps("system:serviceaccount:kube-system:"+name+"-controller", name+"-controller")
		props["controllers-"+name] = controller.Props(spec(deps), deps)
	}
	for name, p := range props {
		if _, err := c.spawn(p, name); err != nil {
			return err
		}
	}
	c.acting.Store(true)
	return nil
}

// components are the parts of the control plane under the names that Kubernetes has for them.
func (c *Cluster) components() map[string]func() error {
	acting := func() error {
		if !c.acting.Load() {
			return errors.New("not started")
		}
		return nil
	}
	out := map[string]func() error{"controller-manager": acting, "etcd-0": c.state.Healthy}
	if !slices.Contains(c.cfg.Off, schedulerName) {
		out["scheduler"] = acting
	}
	return out
}

// deps is what an actor that acts as user and reports Events as component gets.
func (c *Cluster) deps(user, component string) controller.Deps {
	return controller.Deps{Reader: c.state, Writer: c.api.Local(user), Feed: c.state, Recorder: c.api.Recorder(component),
		Clock: c.cfg.Clock, Log: c.cfg.Log}
}

func (c *Cluster) nodesConfig(proxies *actor.PID) nodes.Config {
	return nodes.Config{
		Reader: c.state, Feed: c.state, Writer: c.api.Local("system:node-controller"), Recorder: c.api.Recorder("kubelet"), Tokens: c.api,
		Conn: c.bus.Conn(), Region: c.cfg.Region, Epoch: c.state.Epoch(), Cluster: c.facts(), Proxies: proxies, Beats: c.beats, Clock: c.cfg.Clock, Log: c.cfg.Log,
	}
}

// facts is what every node is told about its cluster. The namespace kube-system, which nobody can
// delete, customarily identifies a cluster.
func (c *Cluster) facts() *nodepb.Cluster {
	id := ""
	if ns, ok := c.state.Get(messages.KeyOf(messages.Namespaces, "", metav1.NamespaceSystem)); ok {
		id = string(ns.GetUID())
	}
	return &nodepb.Cluster{Id: id, DnsIp: c.cfg.dnsAddress().String(), Domain: c.cfg.Domain, PodCidr: c.cfg.PodCIDR.String(),
		ServiceCidr: c.cfg.ServiceCIDR.String(), ApiIp: c.cfg.ServiceCIDR.Addr().Next().String(), ApiPort: 443}
}

// URL is where the Kubernetes API is served.
func (c *Cluster) URL() string {
	scheme := "https://"
	if c.cfg.Insecure {
		scheme = "http://"
	}
	return scheme + c.cfg.Listener.Addr().String()
}

// NATSURL is where NATS clients connect, "" when there is no listener.
func (c *Cluster) NATSURL() string { return c.bus.ClientURL() }

// AdminConfig reaches the API from within the process as an administrator.
func (c *Cluster) AdminConfig() *rest.Config { return c.api.LoopbackConfig() }

// WriteKubeconfig writes the administrator's kubeconfig with mode 0600.
func (c *Cluster) WriteKubeconfig(path string) error {
	return c.authority.WriteKubeconfig(path, c.URL())
}

// Reader reads the cluster's state from memory.
func (c *Cluster) Reader() objects.Reader { return c.state }

// Feed follows the cluster's state.
func (c *Cluster) Feed() objects.Feed { return c.state }

// Stage is the system of the control plane's actors.
func (c *Cluster) Stage() *stage.System { return c.stage }

// Region is the cluster's region.
func (c *Cluster) Region() string { return c.cfg.Region }

// NodeConn opens a connection with the rights of one node.
func (c *Cluster) NodeConn(node string) (*nats.Conn, error) { return c.bus.NodeConn(node) }

// CutNode takes a node off the bus, as a broken line does, until restore is called.
func (c *Cluster) CutNode(node string) (restore func()) { return c.bus.CutNode(node) }

// Conn opens a connection with all rights, for many simulated nodes at once.
func (c *Cluster) Conn(name string) (*nats.Conn, error) { return c.bus.Connect(name) }

// WaitNode waits until a node is Ready or ctx ends; the error then says why it is not.
func (c *Cluster) WaitNode(ctx context.Context, name string) error {
	why := "it has not registered"
	changed := make(chan string, 1)
	defer c.state.Follow([]messages.Resource{messages.Nodes}, func(ch objects.Change) {
		node, ok := ch.New.(*corev1.Node)
		if !ok || node.Name != name {
			return
		}
		select { // keep the newest only
		case <-changed:
		default:
		}
		changed <- notReady(node)
	})()
	for {
		select {
		case why = <-changed:
			if why == "" {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("node %s is not ready: %s", name, why)
		}
	}
}

// notReady says why a node is not Ready, "" when it is.
func notReady(node *corev1.Node) string {
	for _, cond := range node.Status.Conditions {
		if cond.Type != corev1.NodeReady {
			continue
		}
		if cond.Status == corev1.ConditionTrue {
			return ""
		}
		return cond.Message
	}
	return "it has not said how it is"
}

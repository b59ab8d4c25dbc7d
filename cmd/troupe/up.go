package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/host"
)

// The runtimes a node can run pods on.
const (
	runtimeContainerd = "containerd"
	runtimeSim        = "sim"
	runtimeNone       = "none"
)

// upConfig says what cluster to start; the flags explain the fields.
type upConfig struct {
	configFile        string
	dataDir           string
	kubeconfig        string
	apiAddr           string
	natsAddr          string
	natsURL           string
	natsCreds         string
	natsCA            string
	natsCert, natsKey string
	natsReplicas      int
	memberAddr        string
	peers             []string
	join, token       string
	runtime           string
	nodes             int
	nodeName          string
	containerdAddress string
	podCIDR           string
	serviceCIDR       string
	evictionHard      string
	pressurePeriod    time.Duration
	logLevel          string
	authentication    string
	clientCA          string
	audit             api.Audit
	tlsCert, tlsKey   string

	// binDir holds containerd and what goes with it; empty means the folder of this program.
	binDir string
	// started is told of the control plane once it and the nodes are up; nil means nobody is.
	started func(*cluster.Cluster)
}

func newUp() *cobra.Command {
	var cfg upConfig
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster: control plane and node in one process",
		Long: `Start a cluster on this machine, or resume the one in the data folder.

It runs until SIGTERM or Ctrl-C, which stop troupe cleanly and leave the pods running: the next
troupe up on the same folder adopts them. troupe down stops the pods, too.`,
		Example: `  troupe up
  troupe up --runtime sim --nodes 100 --data-dir /tmp/troupe
  troupe up --config troupe.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.configFile != "" {
				if err := loadSettings(cfg.configFile, cmd.Flags()); err != nil {
					return err
				}
			}
			signal.Ignore(syscall.SIGPIPE) // whoever read what it prints may go; the cluster stays
			err := runUp(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if cause := context.Cause(cmd.Context()); cause != nil && errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%w, before the cluster was ready: %w", cause, err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.configFile, "config", "", "YAML file with settings named like these flags; flags win")
	f.StringVar(&cfg.dataDir, "data-dir", defaultDataDir(), "folder that keeps everything (TROUPE_DATA_DIR)")
	f.StringVar(&cfg.kubeconfig, "kubeconfig", "", "where to write the administrator's kubeconfig, mode 0600 (default <data-dir>/kubeconfig)")
	f.StringVar(&cfg.apiAddr, "api-addr", "127.0.0.1:6443", "address of the Kubernetes API; port 0 picks a free one")
	f.StringVar(&cfg.natsAddr, "nats-addr", "127.0.0.1:4222", "address for NATS clients; empty means none, port 0 picks a free one")
	f.StringVar(&cfg.natsURL, "nats-url", "", "NATS server or cluster with JetStream to keep the state in, instead of one of our own; several addresses with commas")
	f.StringVar(&cfg.natsCreds, "nats-creds", "", "credentials file for --nats-url")
	f.StringVar(&cfg.natsCA, "nats-ca", "", "certificate of the authority that --nats-url is checked by (default the system's)")
	f.StringVar(&cfg.natsCert, "nats-cert", "", "client certificate for --nats-url")
	f.StringVar(&cfg.natsKey, "nats-key", "", "key of --nats-cert")
	f.IntVar(&cfg.natsReplicas, "nats-replicas", 0, "how many servers of --nats-url keep each stream: 1, 3 or 5 (default 3 in a NATS cluster, otherwise 1)")
	f.StringVar(&cfg.join, "join", "", "address of a member of the control plane to become a member of; troupe members grow there says it")
	f.StringVar(&cfg.token, "token", "", "what troupe members grow has printed, for --join")
	f.StringVar(&cfg.memberAddr, "member-addr", "", "address for the other two members of a control plane of three; written down in the data folder")
	f.StringSliceVar(&cfg.peers, "peers", nil, "the --member-addr of the two others, with a comma, when three start that have the same keys; see --join otherwise")
	f.StringVar(&cfg.runtime, "runtime", runtimeContainerd, "what runs the containers: containerd (root), sim (nothing really runs) or none (no node here)")
	f.IntVar(&cfg.nodes, "nodes", 1, "how many simulated nodes (--runtime sim)")
	f.StringVar(&cfg.nodeName, "node-name", "", "name of this node (default the host's name)")
	f.StringVar(&cfg.containerdAddress, "containerd-address", "", "socket of a containerd that runs already, instead of an own one")
	f.StringVar(&cfg.podCIDR, "pod-cidr", "10.244.0.0/16", "addresses of pods; each node gets a /24 of it")
	f.StringVar(&cfg.serviceCIDR, "service-cidr", "10.96.0.0/16", "addresses of services")
	f.StringVar(&cfg.evictionHard, "eviction-hard", eviction.Default, "what a node keeps free: below it unused images and ended containers are removed, then pods evicted; empty means never")
	f.DurationVar(&cfg.pressurePeriod, "eviction-pressure-transition-period", 5*time.Minute, "how long a node's pressure condition stays after it was last seen")
	f.StringVar(&cfg.logLevel, "log-level", "warn", "what is logged to standard error: debug, info, warn or error")
	f.StringVar(&cfg.authentication, "authentication-config", "", "file with an AuthenticationConfiguration: issuers of tokens, how far strangers get; followed when it changes")
	f.StringVar(&cfg.clientCA, "client-ca-file", "", "PEM file with further authorities whose client certificates are known; followed when it changes")
	f.StringVar(&cfg.tlsCert, "tls-cert-file", "", "PEM file with a serving certificate of another authority; followed when it changes")
	f.StringVar(&cfg.tlsKey, "tls-private-key-file", "", "PEM file with the key of --tls-cert-file")
	f.StringVar(&cfg.audit.PolicyFile, "audit-policy-file", "", "file with an audit.k8s.io/v1 Policy: what is written down of requests")
	f.StringVar(&cfg.audit.LogPath, "audit-log-path", "", "file that gets a line of JSON for each audit event; - is standard output")
	f.IntVar(&cfg.audit.MaxAge, "audit-log-maxage", 0, "how many days older audit logs are kept; 0 means for ever")
	f.IntVar(&cfg.audit.MaxBackups, "audit-log-maxbackup", 0, "how many older audit logs are kept; 0 means all")
	f.IntVar(&cfg.audit.MaxSize, "audit-log-maxsize", 0, "megabytes after which the next audit log is begun; 0 means no limit")
	return c
}

// check reports everything that is wrong with the settings at once, and parses the ranges.
func (c *upConfig) check() (pods, services netip.Prefix, err error) {
	var errs []error
	bad := func(flag string, err error) { errs = append(errs, fmt.Errorf("--%s: %w", flag, err)) }
	if pods, err = netip.ParsePrefix(c.podCIDR); err != nil {
		bad("pod-cidr", err)
	} else if pods.Bits() > 24 || !pods.Addr().Is4() {
		bad("pod-cidr", errors.New("it must be an IPv4 range of /24 or wider: each node gets a /24"))
	}
	if services, err = netip.ParsePrefix(c.serviceCIDR); err != nil {
		bad("service-cidr", err)
	} else if services.Bits() > 28 || services.Bits() < 12 || !services.Addr().Is4() {
		bad("service-cidr", errors.New("it must be an IPv4 range between /12 and /28"))
	}
	if pods.IsValid() && services.IsValid() && pods.Overlaps(services) {
		bad("service-cidr", fmt.Errorf("it overlaps --pod-cidr %s", pods))
	}
	switch c.runtime {
	case runtimeSim:
		if c.nodes < 1 {
			bad("nodes", errors.New("there must be at least one"))
		}
		if c.containerdAddress != "" {
			bad("containerd-address", errors.New("it has no meaning with --runtime sim"))
		}
	case runtimeNone:
		if c.containerdAddress != "" {
			bad("containerd-address", errors.New("it has no meaning with --runtime none"))
		}
	case runtimeContainerd:
		if c.nodes != 1 {
			bad("nodes", errors.New("more than one needs --runtime sim"))
		}
	default:
		bad("runtime", fmt.Errorf("%q is not known; choose containerd, sim or none", c.runtime))
	}
	if _, err := c.thresholds(); err != nil {
		bad("eviction-hard", err)
	}
	if c.pressurePeriod < 0 {
		bad("eviction-pressure-transition-period", errors.New("it must not be below 0"))
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		bad("tls-cert-file", errors.New("it and --tls-private-key-file go together"))
	}
	if err := c.audit.Check(); err != nil {
		bad("audit-policy-file", err)
	}
	switch {
	case c.join != "" && (c.memberAddr == "" || c.token == "" || len(c.peers) > 0 || c.natsURL != ""):
		bad("join", errors.New("it goes with --token and --member-addr, which is where the others reach this machine, and without --peers and --nats-url"))
	case c.join == "" && c.token != "":
		bad("token", errors.New("it has no meaning without --join"))
	case c.join != "":
	case c.memberAddr == "" && len(c.peers) > 0:
		bad("peers", errors.New("it has no meaning without --member-addr"))
	case c.memberAddr != "" && c.natsURL != "":
		bad("member-addr", errors.New("it has no meaning with --nats-url"))
	case c.memberAddr != "" && len(c.peers) != bus.Replicas-1:
		bad("peers", fmt.Errorf("%d are named; a control plane of three needs the addresses of the two others", len(c.peers)))
	}
	if c.natsURL == "" {
		for flag, value := range map[string]string{"nats-creds": c.natsCreds, "nats-ca": c.natsCA, "nats-cert": c.natsCert, "nats-key": c.natsKey} {
			if value != "" {
				bad(flag, errors.New("it has no meaning without --nats-url"))
			}
		}
		if c.natsReplicas != 0 {
			bad("nats-replicas", errors.New("it has no meaning without --nats-url"))
		}
	} else if err := c.outside().Check(); err != nil {
		bad("nats-url", err)
	}
	if c.nodeName != "" {
		if problems := validation.IsDNS1123Subdomain(c.nodeName); problems != nil {
			bad("node-name", errors.New(strings.Join(problems, "; ")))
		}
	}
	return pods.Masked(), services.Masked(), errors.Join(errs...)
}

// thresholds are those of --eviction-hard, never nil.
func (c *upConfig) thresholds() ([]eviction.Threshold, error) {
	list, err := eviction.Parse(c.evictionHard)
	return append([]eviction.Threshold{}, list...), err
}

// outside is the NATS of --nats-url, nil without it.
func (c *upConfig) outside() *bus.Outside {
	if c.natsURL == "" {
		return nil
	}
	return &bus.Outside{URL: c.natsURL, Creds: c.natsCreds, CA: c.natsCA, Cert: c.natsCert, Key: c.natsKey, Replicas: c.natsReplicas}
}

func runUp(ctx context.Context, cfg upConfig, out, errOut io.Writer) error {
	start := time.Now()
	pods, services, err := cfg.check()
	if err != nil {
		return err
	}
	if cfg.natsURL != "" {
		cfg.natsAddr = "" // there is no server here that could listen
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.logLevel)); err != nil {
		return fmt.Errorf("--log-level: %q is not known; choose debug, info, warn or error", cfg.logLevel)
	}
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
	routeKlog(log)
	if cfg.nodeName == "" {
		if cfg.nodeName, err = hostName(); err != nil {
			return err
		}
	}
	if cfg.dataDir, err = filepath.Abs(cfg.dataDir); err != nil {
		return err
	}
	nodeCfg := node.Config{DataDir: cfg.dataDir, Name: cfg.nodeName, ContainerdAddress: cfg.containerdAddress, BinDir: cfg.binDir, PressureTransition: cfg.pressurePeriod, Log: log}
	if nodeCfg.EvictionHard, err = cfg.thresholds(); err != nil {
		return err
	}
	if cfg.runtime == runtimeContainerd {
		if err := host.Preflight(host.Config{DataDir: cfg.dataDir, BinDir: cfg.binDir, Address: cfg.containerdAddress, Log: log}); err != nil {
			return err
		}
	}
	if cfg.kubeconfig != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.kubeconfig), 0o700); err != nil {
			return fmt.Errorf("--kubeconfig: %w", err)
		}
	}
	dir, err := openDataDir(cfg.dataDir)
	if err != nil {
		return err
	}
	defer limitMemory(ctx)()
	listener, err := addresses(cfg)
	if err != nil {
		dir.giveUp()
		return err
	}
	defer func() { _ = dir.Close() }()

	p := &progress{out: out, last: start}
	fmt.Fprintf(out, "troupe %s, Kubernetes API %s, on %s\n", version, kubernetesVersion, cfg.dataDir)
	if cfg.join != "" {
		err := cluster.Join(ctx, cluster.JoinConfig{DataDir: cfg.dataDir, Addr: cfg.join, Token: cfg.token, Name: cfg.nodeName, MemberAddr: cfg.memberAddr,
			Region: bus.DefaultRegion, PodCIDR: pods.String(), ServiceCIDR: services.String(), Step: p.step, Log: log})
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		cfg.memberAddr = "" // as written down
	}
	control := cluster.Config{
		DataDir: cfg.dataDir, Region: bus.DefaultRegion, NATSAddr: cfg.natsAddr, Outside: cfg.outside(), Member: cfg.nodeName, MemberAddr: cfg.memberAddr, Peers: cfg.peers,
		Authentication: cfg.authentication, ClientCA: cfg.clientCA, TLSCert: cfg.tlsCert, TLSKey: cfg.tlsKey, Audit: cfg.audit,
		PodCIDR: pods, ServiceCIDR: services, Version: "troupe." + version, Step: p.step, Log: log,
	}
	cfg.apiAddr = listener.Addr().String()
	for {
		control.Listener = listener
		err := runControl(ctx, cfg, control, nodeCfg, p, start)
		switch {
		case errors.Is(err, cluster.ErrLeft):
			fmt.Fprintln(out, oneLine(err)+"; remove what is here with troupe reset")
			return nil
		case !errors.Is(err, cluster.ErrTurned):
			return err
		}
		// One of three now, or alone again: everything starts anew.
		if listener, err = listen(cfg.apiAddr, "--api-addr"); err != nil {
			return err
		}
		control.MemberAddr, control.Peers = "", nil // as written down
		start = time.Now()
	}
}

// runControl runs the cluster until ctx ends or it has to be started again, which the error says.
func runControl(ctx context.Context, cfg upConfig, control cluster.Config, nodeCfg node.Config, p *progress, start time.Time) error {
	if cfg.runtime == runtimeContainerd {
		if err := reachableByPods(ctx, &control); err != nil {
			return errors.Join(err, control.Listener.Close())
		}
	}
	c, err := cluster.Start(ctx, control)
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	r := running{API: c.URL(), NATS: c.NATSURL(), Outside: control.Outside, Region: bus.DefaultRegion, Node: cfg.nodeName, Runtime: cfg.runtime,
		ContainerdAddress: cfg.containerdAddress, PodCIDR: control.PodCIDR.String()}
	stopNodes, err := startNodes(ctx, cfg, nodeCfg, c, p, r)
	if err == nil {
		fmt.Fprintf(p.out, "ready in %d ms\n\n%s\n", time.Since(start).Milliseconds(), nextSteps(cfg))
		if cfg.started != nil {
			cfg.started(c)
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(p.out, "%v: stopping; pods keep running until troupe down\n", context.Cause(ctx))
		case <-c.Turned():
			err = cluster.ErrTurned
		case err = <-c.Failed():
			err = fmt.Errorf("the control plane failed: %w; start troupe up again", err)
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	return errors.Join(err, stopNodes(stopCtx), c.Close(stopCtx))
}

// startNodes writes down where the cluster is and starts its nodes. The stop function is never nil.
func startNodes(ctx context.Context, cfg upConfig, nodeCfg node.Config, c *cluster.Cluster, p *progress, r running) (func(context.Context) error, error) {
	if err := r.write(cfg.dataDir); err != nil {
		return nothing, err
	}
	if err := c.WriteKubeconfig(kubeconfigPath(cfg)); err != nil {
		return nothing, fmt.Errorf("%w; choose another file with --kubeconfig", err)
	}
	switch cfg.runtime {
	case runtimeNone:
		return nothing, nil
	case runtimeSim:
		return startSimulated(ctx, cfg.nodes, nodeCfg, c, p)
	}
	return startReal(ctx, nodeCfg, c, p)
}

func startSimulated(ctx context.Context, nodes int, cfg node.Config, c *cluster.Cluster, p *progress) (func(context.Context) error, error) {
	nc, err := c.Conn("simulated nodes")
	if err != nil {
		return nothing, err
	}
	sims, err := node.StartSim(ctx, node.SimConfig{
		Nodes: nodes, Region: c.Region(), Conn: nc, Stage: c.Stage(), EvictionHard: cfg.EvictionHard, PressureTransition: cfg.PressureTransition, Log: cfg.Log,
	})
	if err != nil {
		nc.Close()
		return nothing, fmt.Errorf("start simulated nodes: %w", err)
	}
	p.step(fmt.Sprintf("%d simulated nodes", nodes), "")
	return func(ctx context.Context) error {
		defer nc.Close()
		return sims.Close(ctx)
	}, nil
}

func nothing(context.Context) error { return nil }

func kubeconfigPath(cfg upConfig) string {
	if cfg.kubeconfig != "" {
		return cfg.kubeconfig
	}
	return filepath.Join(cfg.dataDir, "kubeconfig")
}

func nextSteps(cfg upConfig) string {
	return fmt.Sprintf("  export KUBECONFIG=%s\n  kubectl get nodes        # or: troupe kubectl get nodes\n", kubeconfigPath(cfg))
}

// progress prints what has been started and how long it took.
type progress struct {
	mu   sync.Mutex // a member comes to lead at any time
	out  io.Writer
	last time.Time
}

func (p *progress) step(name, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	line := fmt.Sprintf("  %-28s %5d ms", name, now.Sub(p.last).Milliseconds())
	if detail != "" {
		line += "   " + detail
	}
	fmt.Fprintln(p.out, line)
	p.last = now
}

// addresses takes the API's address and makes sure that the other is free, too.
func addresses(cfg upConfig) (net.Listener, error) {
	l, err := listen(cfg.apiAddr, "--api-addr")
	if err != nil {
		return nil, err
	}
	if err := free(cfg.natsAddr, "--nats-addr"); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listen opens an address, or says how to get out of the way of what has it.
func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program; choose another address with %s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// free says early, with the flag to change, that an address cannot be listened on.
func free(addr, flag string) error {
	if addr == "" {
		return nil
	}
	l, err := listen(addr, flag)
	if err != nil {
		return err
	}
	return l.Close()
}

// hostName is this machine's name as a node's: lower case.
func hostName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("%w; name the node with --node-name", err)
	}
	name = strings.ToLower(name)
	if problems := validation.IsDNS1123Subdomain(name); problems != nil {
		return "", fmt.Errorf("the host's name %q cannot name a node (%s); choose one with --node-name", name, problems[0])
	}
	return name, nil
}

// oneLine words an error that may be several, or be worded in lines, for a person at a terminal.
func oneLine(err error) string {
	var b strings.Builder
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		switch {
		case b.Len() == 0 || line == "":
		case strings.HasSuffix(b.String(), ":"):
			b.WriteString(" ")
		default:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}

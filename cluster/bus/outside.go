package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// minAPILevel is the level of JetStream's API that is needed: messages with a lifetime, atomic batches
// and streams that are written to disk later came with nats-server 2.12.
const minAPILevel = 2

// minPayload is the least a NATS message must be allowed to have, in bytes: Kubernetes' largest object,
// sealed, and its headers.
const minPayload = 1536<<10*4/3 + 64<<10

// needStreams is how many streams a control plane makes.
const needStreams = 4

// Outside names a NATS server or cluster that runs already. Files are paths.
type Outside struct {
	// URL is one or more addresses, separated by commas; it may have user and password. Required.
	URL string `json:"url"`
	// Creds is a credentials file. Empty means none.
	Creds string `json:"creds,omitempty"`
	// CA is the certificate of the authority to trust, instead of the system's.
	CA string `json:"ca,omitempty"`
	// Cert and Key are a client certificate.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// Replicas is how many servers keep each stream. Zero means three in a cluster, and otherwise one.
	Replicas int `json:"replicas,omitempty"`
}

// Check reports everything that is wrong with it, without connecting.
func (o *Outside) Check() error {
	var errs []error
	for _, u := range strings.Split(o.URL, ",") {
		parsed, err := url.Parse(strings.TrimSpace(u))
		if err != nil || parsed.Host == "" {
			errs = append(errs, fmt.Errorf("NATS URL %q is not like nats://host:4222", redact(u)))
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		errs = append(errs, errors.New("a client certificate and its key go together"))
	}
	for _, file := range []string{o.Creds, o.CA, o.Cert, o.Key} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			errs = append(errs, err)
		}
	}
	if o.Replicas < 0 || o.Replicas > 5 || o.Replicas == 2 || o.Replicas == 4 {
		errs = append(errs, fmt.Errorf("%d replicas; NATS keeps 1, 3 or 5", o.Replicas))
	}
	return errors.Join(errs...)
}

func (o *Outside) options() []nats.Option {
	var opts []nats.Option
	if o.Creds != "" {
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.Key))
	}
	return opts
}

// preflightWait bounds each question to a server that shall be used.
const preflightWait = 5 * time.Second

// Connect opens a connection of its own, for a program beside the control plane.
func (o *Outside) Connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect(o.URL, append(o.options(), nats.Name(name))...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", o.Name(), err)
	}
	return nc, nil
}

// redact hides the password in a URL.
func redact(u string) string {
	parsed, err := url.Parse(u)
	if err != nil {
		return "that was given"
	}
	return parsed.Redacted()
}

// Name is the address as people may see it.
func (o *Outside) Name() string {
	var out []string
	for _, u := range strings.Split(o.URL, ",") {
		out = append(out, redact(strings.TrimSpace(u)))
	}
	return strings.Join(out, ",")
}

// startOutside connects to the server instead of running one.
func (b *Bus) startOutside(ctx context.Context) error {
	if b.cfg.DataDir != "" {
		if err := os.MkdirAll(b.cfg.DataDir, 0o700); err != nil {
			return fmt.Errorf("start bus: %w", err)
		}
	} else if tmp, err := os.MkdirTemp("", "troupe-bus-"); err != nil {
		return fmt.Errorf("start bus: %w", err)
	} else {
		b.tmp = tmp
	}
	conn, err := b.Connect("control")
	if err != nil {
		return fmt.Errorf("NATS at %s: %w", b.cfg.Outside.Name(), err)
	}
	b.conn = conn
	if err := b.preflight(ctx); err != nil {
		return fmt.Errorf("NATS at %s cannot keep a cluster: %w", b.cfg.Outside.Name(), err)
	}
	b.replicas = b.cfg.Outside.Replicas
	if b.replicas == 0 {
		b.replicas = 1
		if conn.ConnectedClusterName() != "" {
			b.replicas = Replicas
		}
	}
	b.cfg.Log.Warn("whether these NATS servers write every message to disk at once cannot be seen from here; "+
		"without sync_interval: always in their jetstream section a power cut can lose writes that were acknowledged",
		"url", b.cfg.Outside.Name())
	return nil
}

// preflight says what the server lacks or does not allow, all at once.
func (b *Bus) preflight(ctx context.Context) error {
	var errs []error
	if have := b.conn.MaxPayload(); have < minPayload {
		errs = append(errs, fmt.Errorf("its messages may have %d KiB, objects need %d KiB; set max_payload: 4MB in its configuration", have>>10, minPayload>>10))
	}
	js, err := jetstream.New(b.conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, preflightWait)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		errs = append(errs, errors.New("JetStream is not enabled; add a jetstream section to its configuration"))
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		errs = append(errs, errors.New("JetStream is not enabled for this account; enable it there"))
	case err != nil:
		errs = append(errs, fmt.Errorf("JetStream does not answer: %w", err))
	case info.API.Level < minAPILevel:
		errs = append(errs, fmt.Errorf("it is nats-server %s; 2.12 or newer is needed", b.conn.ConnectedServerVersion()))
	default:
		errs = append(errs, checkLimits(info))
	}
	errs = append(errs, b.checkPermissions())
	return errors.Join(errs...)
}

func checkLimits(info *jetstream.AccountInfo) error {
	limits := info.Limits
	if tier, ok := info.Tiers["R1"]; ok && limits.MaxStore == 0 {
		limits = tier.Limits
	}
	var errs []error
	if limits.MaxStore == 0 {
		errs = append(errs, errors.New("the account may store nothing on disk"))
	}
	if limits.MaxMemory == 0 {
		errs = append(errs, errors.New("the account may store nothing in memory, where the lease of the leading control plane is kept"))
	}
	if left := limits.MaxStreams - info.Streams; limits.MaxStreams > 0 && left < needStreams && info.Streams < needStreams {
		errs = append(errs, fmt.Errorf("the account may have %d streams and has %d, %d more are needed", limits.MaxStreams, info.Streams, needStreams))
	}
	return errors.Join(errs...)
}

// checkPermissions tries, on subjects where nothing listens or with questions that are answered by
// an error, whether the user may do what a control plane does.
func (b *Bus) checkPermissions() error {
	var mu sync.Mutex
	refused := map[string]bool{}
	told := make(chan struct{})
	nc, err := b.connect(b, "troupe preflight", controlUser, "", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, nats.ErrPermissionViolation) {
			refused[violation(err.Error())] = true
		}
	}), nats.ClosedHandler(func(*nats.Conn) { close(told) }))
	if err != nil {
		return err
	}
	defer nc.Close()
	region := messages.ChangePrefix(b.cfg.Region)
	for _, subject := range []string{region + "_.preflight._._", messages.StateRecord(messages.StateBucket, "preflight"),
		"$JS.API.STREAM.INFO.KV_" + messages.StateBucket, "$JS.API.STREAM.CREATE.KV_" + messages.StateBucket,
		"$JS.API.STREAM.MSG.GET.KV_" + messages.LeaseBucket, "$JS.API.CONSUMER.CREATE.KV_" + messages.StateBucket} {
		err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: nc.NewInbox(), Header: nats.Header{
			jetstream.ExpectedLastSeqHeader: {strconv.Itoa(math.MaxInt64)}, // no stream is there, so that none stores it
		}})
		if err != nil {
			return err
		}
	}
	for _, subject := range []string{nc.NewInbox(), region + "_.preflight._._"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			return err
		}
	}
	// What the server refuses comes before its answer to a ping, and is told in order.
	if err := nc.FlushTimeout(preflightWait); err != nil {
		return err
	}
	nc.Close()
	<-told
	mu.Lock()
	defer mu.Unlock()
	var errs []error
	for what := range refused {
		errs = append(errs, fmt.Errorf("its user has no permission for %s", what))
	}
	return errors.Join(errs...)
}

// violation takes the essence out of the server's words, such as: nats: permissions violation:
// Permissions Violation for Publish to "a.b".
func violation(text string) string {
	if _, what, ok := strings.Cut(text, "Violation for "); ok {
		return what
	}
	return text
}

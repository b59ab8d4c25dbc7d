package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

type eventsConfig struct {
	dataDir   string
	since     time.Duration
	kind      string
	namespace string
	follow    bool
}

func newEvents() *cobra.Command {
	var cfg eventsConfig
	c := &cobra.Command{
		Use:   "events",
		Short: "Follow the changes of the cluster as they are written",
		Long: `Follow the change stream on NATS: every write of an object is one line. Any NATS client can do
the same, with troupe events credentials; the subjects are
troupe.<region>.changes.<group>.<resource>.<namespace>.<name>.`,
		Example: `  troupe events
  troupe events --since 1h --kind Pod -n default --follow=false`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEvents(cmd.Context(), cfg, cmd.OutOrStdout()) },
	}
	c.PersistentFlags().StringVar(&cfg.dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	c.AddCommand(newCredentials(&cfg.dataDir))
	f := c.Flags()
	f.DurationVar(&cfg.since, "since", 0, "begin with the changes of this long ago; 0 means from now on")
	f.StringVar(&cfg.kind, "kind", "", "only this kind or resource, such as Pod or deployments")
	f.StringVarP(&cfg.namespace, "namespace", "n", "", "only this namespace")
	f.BoolVarP(&cfg.follow, "follow", "f", true, "wait for more; without it, end after the changes there are")
	return c
}

func runEvents(ctx context.Context, cfg eventsConfig, out io.Writer) error {
	dir, err := filepath.Abs(cfg.dataDir)
	if err != nil {
		return err
	}
	r, err := readRunning(dir)
	if err != nil {
		return err
	}
	nc, err := connectObserver(dir, r)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{messages.ChangesFilter(r.Region, nil, cfg.namespace)},
		DeliverPolicy:  jetstream.DeliverNewPolicy,
	}
	if cfg.since > 0 {
		start := time.Now().Add(-cfg.since)
		consumer.DeliverPolicy, consumer.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	oc, err := js.OrderedConsumer(ctx, messages.ChangeStream, consumer)
	if err != nil {
		return fmt.Errorf("follow the change stream: %w", err)
	}
	if info := oc.CachedInfo(); !cfg.follow && info != nil && info.NumPending == 0 {
		return nil
	}
	msgs, err := oc.Messages()
	if err != nil {
		return fmt.Errorf("follow the change stream: %w", err)
	}
	defer context.AfterFunc(ctx, msgs.Stop)()
	for {
		m, err := msgs.Next()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow the change stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if line, ok := eventLine(m.Subject(), m.Headers(), meta.Timestamp, cfg.kind); ok {
			fmt.Fprintln(out, line)
		}
		if !cfg.follow && meta.NumPending == 0 {
			return nil
		}
	}
}

// connectObserver logs in with the rights of a reader of changes.
func connectObserver(dataDir string, r running) (*nats.Conn, error) {
	if r.NATS == "" {
		return nil, fmt.Errorf("the cluster has no NATS listener; start it with troupe up --nats-addr 127.0.0.1:4222")
	}
	const user = "troupe-events"
	if r.Outside != nil {
		return r.Outside.Connect(user)
	}
	tls, err := cluster.ObserverTLS(dataDir, user)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(r.NATS, nats.Secure(tls), nats.Name(user), nats.CustomInboxPrefix(bus.ObserverInbox(user)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w; is troupe up?", r.NATS, err)
	}
	return nc, nil
}

// eventLine words one change; ok is false when kind is set and the change is of another.
func eventLine(subject string, h nats.Header, at time.Time, kind string) (line string, ok bool) {
	_, key, err := messages.ParseChange(subject)
	if err != nil {
		return "", false
	}
	gvk := h.Get(messages.HeaderKind)
	name := gvk[strings.LastIndex(gvk, "/")+1:]
	if kind != "" && !strings.EqualFold(kind, name) && !strings.EqualFold(kind, key.Resource.Resource) && !strings.EqualFold(kind, key.Resource.String()) {
		return "", false
	}
	where := key.Name
	if key.Namespace != "" {
		where = key.Namespace + "/" + key.Name
	}
	return fmt.Sprintf("%s  %-7s  %-18s %s  rev %s", at.Local().Format("15:04:05.000"), h.Get(messages.HeaderVerb), name, where,
		h.Get(messages.HeaderRevision)), true
}

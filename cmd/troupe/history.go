package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/troupe-run/troupe/messages"
)

type historyConfig struct {
	dataDir   string
	namespace string
	diff      bool
	to        uint64
}

func newHistory() *cobra.Command {
	var cfg historyConfig
	c := &cobra.Command{
		Use:   "history KIND/NAME",
		Short: "Show who changed an object, when and how",
		Long: `Show the revisions of an object that the change stream still has (by default those of the last
72 hours, at most 1 GiB of all changes), who wrote each, and what it changed. What Secrets hold is
sealed in the stream; only their revisions are shown.`,
		Example: `  troupe history deployment/web -n shop --diff
  troupe history undo deployment/web -n shop --to 4711`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), cfg, args[0], cmd.OutOrStdout())
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&cfg.dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	f.StringVarP(&cfg.namespace, "namespace", "n", "default", "namespace of the object")
	c.Flags().BoolVar(&cfg.diff, "diff", false, "show every field that changed, with both values")
	undo := &cobra.Command{
		Use:   "undo KIND/NAME --to REV",
		Short: "Write an object as it was at a revision",
		Long: `Write back what an object said at a revision: all but its metadata and its status. It is a write
like any other, refused if it is invalid today or if the object changes at the same moment. An
object that is gone is created anew.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUndo(cmd.Context(), cfg, args[0], cmd.OutOrStdout())
		},
	}
	undo.Flags().Uint64Var(&cfg.to, "to", 0, "the revision, as troupe history shows it")
	c.AddCommand(undo)
	return c
}

// past is one write of an object, as the change stream keeps it.
type past struct {
	rev    uint64
	at     time.Time
	verb   string
	user   string
	sealed bool
	object map[string]any // nil when sealed
}

func runHistory(ctx context.Context, cfg historyConfig, arg string, out io.Writer) error {
	key, _, err := cfg.find(arg)
	if err != nil {
		return err
	}
	all, err := cfg.read(ctx, key)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("the change stream has nothing of %s; it may not exist, or not have changed for long", arg)
	}
	return printHistory(out, all, cfg.diff)
}

// flags are kubectl's, on the cluster of the data folder.
func (c historyConfig) flags() *genericclioptions.ConfigFlags {
	f := genericclioptions.NewConfigFlags(true)
	file := filepath.Join(c.dataDir, "kubeconfig")
	f.KubeConfig = &file
	return f
}

// find resolves what kubectl would: kinds, resources and their short names.
func (c historyConfig) find(arg string) (messages.Key, *meta.RESTMapping, error) {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok || kind == "" || name == "" {
		return messages.Key{}, nil, fmt.Errorf("%q is not KIND/NAME, such as deployment/web", arg)
	}
	if _, err := readRunning(c.dataDir); err != nil {
		return messages.Key{}, nil, err
	}
	mapper, err := c.flags().ToRESTMapper()
	if err != nil {
		return messages.Key{}, nil, err
	}
	// resource.version.group looks like a resource of a group with a dot in its name.
	var gvk schema.GroupVersionKind
	full, gr := schema.ParseResourceArg(strings.ToLower(kind))
	if full != nil {
		gvk, err = mapper.KindFor(*full)
	}
	if full == nil || meta.IsNoMatchError(err) {
		gvk, err = mapper.KindFor(gr.WithVersion(""))
	}
	if err != nil {
		return messages.Key{}, nil, fmt.Errorf("%s: %w", arg, err)
	}
	m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return messages.Key{}, nil, fmt.Errorf("%s: %w", arg, err)
	}
	key := messages.KeyOf(messages.Resource{Group: m.Resource.Group, Resource: m.Resource.Resource}, "", name)
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		key.Namespace = c.namespace
	}
	return key, m, nil
}

// read returns what the change stream has of an object, oldest first.
func (c historyConfig) read(ctx context.Context, key messages.Key) ([]past, error) {
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		return nil, err
	}
	r, err := readRunning(dir)
	if err != nil {
		return nil, err
	}
	nc, err := connectObserver(dir, r)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	oc, err := js.OrderedConsumer(ctx, messages.ChangeStream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{messages.Change(r.Region, key)}})
	if err != nil {
		return nil, fmt.Errorf("read the change stream: %w", err)
	}
	if info := oc.CachedInfo(); info != nil && info.NumPending == 0 {
		return nil, nil
	}
	msgs, err := oc.Messages()
	if err != nil {
		return nil, fmt.Errorf("read the change stream: %w", err)
	}
	defer msgs.Stop()
	defer context.AfterFunc(ctx, msgs.Stop)()
	var all []past
	for {
		m, err := msgs.Next()
		if err != nil {
			return nil, fmt.Errorf("read the change stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		p, err := readPast(m, meta.Timestamp)
		if err != nil {
			return nil, err
		}
		// After a crash a change may be in the stream twice.
		if len(all) == 0 || p.rev > all[len(all)-1].rev {
			all = append(all, p)
		}
		if meta.NumPending == 0 {
			return all, nil
		}
	}
}

func readPast(m jetstream.Msg, at time.Time) (past, error) {
	h := m.Headers()
	rev, err := strconv.ParseUint(h.Get(messages.HeaderRevision), 10, 64)
	if err != nil {
		return past{}, fmt.Errorf("change without a revision: %w", err)
	}
	p := past{rev: rev, at: at, verb: h.Get(messages.HeaderVerb), user: h.Get(messages.HeaderUser), sealed: h.Get(messages.HeaderSealed) != ""}
	if p.sealed || len(m.Data()) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(m.Data(), &p.object); err != nil {
		return past{}, fmt.Errorf("change at revision %d: %w", rev, err)
	}
	return p, nil
}

// printHistory writes a line for each revision, with a summary of what it changed or, with full,
// every field.
func printHistory(out io.Writer, all []past, full bool) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if !full {
		fmt.Fprintln(table, "REVISION\tTIME\tVERB\tBY\tCHANGED")
	}
	var before map[string]any
	for _, p := range all {
		user := p.user
		if user == "" {
			user = "-"
		}
		line := fmt.Sprintf("%d\t%s\t%s\t%s", p.rev, p.at.Local().Format("2006-01-02 15:04:05"), p.verb, user)
		changed := changes(before, p)
		if full {
			fmt.Fprintln(out, strings.ReplaceAll(line, "\t", "  "))
			for _, c := range changed {
				fmt.Fprintln(out, "    "+c.String())
			}
		} else {
			fmt.Fprintln(table, line+"\t"+summary(p, changed))
		}
		before = p.object
		if p.verb == messages.VerbDelete {
			before = nil
		}
	}
	return table.Flush()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
)

func newSecrets() *cobra.Command {
	c := &cobra.Command{
		Use:   "secrets",
		Short: "Look after the key that Secrets are sealed with on disk",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newSecretsRotate())
	return c
}

func newSecretsRotate() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Seal all Secrets with a new key",
		Long: `Make a new sealing key and write every Secret again with it. The cluster goes on meanwhile; each
Secret gets a new resourceVersion. If this command or the cluster ends before all is done, the
cluster goes on with it by itself, and running the command again shows how far it is.

The old key stays in <data-dir>/nats/sealing.key until the change stream has no change left that is
sealed with it, 73 hours later. Backups hold Secrets in the clear and no key: they are not affected.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRotate(cmd.Context(), dataDir, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	return c
}

func runRotate(ctx context.Context, dataDir string, out io.Writer) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	r, err := readRunning(dir)
	if err != nil {
		return err
	}
	if r.NATS == "" {
		return errors.New("the cluster has no NATS listener; start it with troupe up --nats-addr 127.0.0.1:4222")
	}
	all, shown := -1, 0
	var last cluster.Rotation
	err = cluster.Rotate(ctx, dir, r.NATS, r.Outside, r.Region, func(now cluster.Rotation) {
		if last = now; all < 0 {
			all = now.Left
			fmt.Fprintf(out, "key %s; %d objects to seal with it\n", now.Key, all)
		}
		all = max(all, now.Left)
		if percent := 100 * (all - now.Left) / max(all, 1); percent/10 > shown/10 {
			shown = percent
			fmt.Fprintf(out, "%3d %%  %d of %d objects\n", percent, all-now.Left, all)
		}
	})
	if err != nil {
		return fmt.Errorf("rotate the sealing key: %w; is troupe up? What has begun goes on by itself", err)
	}
	fmt.Fprintf(out, "all objects are sealed with key %s\n", last.Key)
	for _, id := range slices.Sorted(maps.Keys(last.Old)) {
		if until := last.Old[id]; !until.IsZero() {
			fmt.Fprintf(out, "key %s is kept until %s\n", id, until.Local().Format("2006-01-02 15:04:05"))
		}
	}
	return nil
}

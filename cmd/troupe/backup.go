package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
)

func newBackup() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all objects and keys of the running cluster to a file",
		Long: `Write all objects, as they are at one revision, and the keys of the cluster's authority to a file.
The cluster goes on meanwhile. Secrets are in the clear in the file, and whoever has it has the
cluster: it is written with mode 0600. Events, images and what containers have written are not in
it.`,
		Example: `  troupe backup monday.troupe
  troupe restore monday.troupe --data-dir /srv/cluster`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBackup(cmd.Context(), dataDir, args[0], cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	return c
}

func runBackup(ctx context.Context, dataDir, file string, out io.Writer) (err error) {
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
	// The file appears when it is whole.
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	info, err := cluster.Backup(ctx, dir, r.NATS, r.Outside, r.Region, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back up: %w; is troupe up?", err), os.Remove(f.Name()))
	}
	fmt.Fprintf(out, "%d objects at revision %d written to %s\n", info.Objects, info.Revision, file)
	return nil
}

func newRestore() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a new data folder of a backup",
		Long: `Make a data folder of a backup; troupe up then starts the cluster. The folder must be empty or not
exist. Revisions go on far above the backup's, so that no client takes old state for new.`,
		Example: `  troupe restore monday.troupe --data-dir /srv/cluster
  troupe up --data-dir /srv/cluster`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRestore(cmd.Context(), dataDir, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder to make (TROUPE_DATA_DIR)")
	return c
}

func runRestore(ctx context.Context, dataDir, file string, out, errOut io.Writer) (err error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty; choose another folder with --data-dir, or remove it with troupe reset", dir)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// The folder appears when it is whole: a restore that was killed is simply done again.
	part := dir + ".restoring"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	shown := 0
	info, err := cluster.Restore(ctx, part, f, func(done, all int) {
		if percent := 100 * done / max(all, 1); percent/10 > shown/10 {
			shown = percent
			fmt.Fprintf(out, "%3d %%  %d of %d objects\n", percent, done, all)
		}
	}, log)
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	fmt.Fprintf(out, "%d objects of %s, revision %d, restored to %s\nstart it with troupe up --data-dir %s\n",
		info.Objects, info.At.Local().Format("2006-01-02 15:04:05"), info.Revision, dir, dir)
	return nil
}

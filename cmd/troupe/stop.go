package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/proxy"
)

// stopWait bounds the clean stop of a running troupe.
const stopWait = 30 * time.Second

func newDown() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and its containers; the data stays",
		Long: `Stop the troupe that runs on a data folder, end its containers and take back every interface,
mount and rule it made. troupe up on the same folder brings everything back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDown(cmd.Context(), dir, cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&dir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	return c
}

func newReset() *cobra.Command {
	var (
		dir string
		yes bool
	)
	c := &cobra.Command{
		Use:   "reset",
		Short: "Stop the cluster and delete everything it stored",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runReset(cmd.Context(), dir, yes, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func runDown(ctx context.Context, dir string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	r, err := readRunning(dir)
	if err != nil {
		return err
	}
	stopped, err := stopHolder(dir, stopWait)
	if err != nil {
		return err
	}
	if stopped {
		fmt.Fprintln(out, "troupe stopped")
	}
	if r.Runtime == runtimeContainerd {
		if err := node.Down(ctx, downConfig(dir, r)); err != nil {
			return fmt.Errorf("take down the node: %w", err)
		}
		if err := proxy.Remove(ctx, "", slog.New(slog.DiscardHandler)); err != nil {
			return fmt.Errorf("take back the rules: %w", err)
		}
		fmt.Fprintln(out, "containers, interfaces, mounts and rules removed")
	}
	fmt.Fprintf(out, "the data stays in %s\n", dir)
	return nil
}

func runReset(ctx context.Context, dir string, yes bool, in io.Reader, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "version")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is no data folder of troupe; name it with --data-dir", dir)
	}
	if !yes {
		fmt.Fprintf(out, "This ends the cluster on %s and deletes all its data. Continue? [y/N] ", dir)
		answer, _ := bufio.NewReader(in).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return errors.New("nothing was changed")
		}
	}
	if _, err := readRunning(dir); err == nil {
		if err := runDown(ctx, dir, io.Discard); err != nil {
			return err
		}
	} else if _, err := stopHolder(dir, stopWait); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), cluster.RemoveStaging(dir)); err != nil {
		return fmt.Errorf("delete the data: %w", err)
	}
	fmt.Fprintf(out, "the cluster and %s are gone\n", dir)
	return nil
}

// downConfig names what a stopped cluster's node may have left running.
func downConfig(dir string, r running) node.DownConfig {
	return node.DownConfig{DataDir: dir, ContainerdAddress: r.ContainerdAddress, Log: slog.New(slog.DiscardHandler)}
}

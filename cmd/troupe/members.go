package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
)

func newMembers() *cobra.Command {
	c := &cobra.Command{
		Use:   "members",
		Short: "See, add and remove the machines that keep the cluster's state together",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newMembersLs(), newMembersGrow(), newMembersShrink())
	return c
}

// reach returns where the cluster of a data folder is, and that folder.
func reach(dataDir string) (running, string, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return running{}, "", err
	}
	r, err := readRunning(dir)
	if err == nil && r.NATS == "" {
		err = errors.New("the cluster has no NATS listener; start it with troupe up --nats-addr 127.0.0.1:4222")
	}
	return r, dir, err
}

func newMembersLs() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the members that answer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMembersLs(cmd.Context(), dataDir, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	return c
}

func runMembersLs(ctx context.Context, dataDir string, out io.Writer) error {
	r, dir, err := reach(dataDir)
	if err != nil {
		return err
	}
	members, err := cluster.ListMembers(ctx, dir, r.NATS, r.Outside, r.Region)
	if err != nil {
		return fmt.Errorf("list the members: %w; is troupe up?", err)
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESS\tAPI\tSTATE")
	for _, m := range members {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, m.Addr, m.API, m.Phase)
		for _, coming := range m.Coming {
			fmt.Fprintf(w, "%s\t\t\thas joined, waits for the others\n", coming)
		}
	}
	return w.Flush()
}

func newMembersGrow() *cobra.Command {
	var dataDir, addr string
	c := &cobra.Command{
		Use:   "grow",
		Short: "Let two other machines join, so that three keep the state",
		Long: `Let two other machines join this control plane, which is alone. The command prints what to run on them.
They get the cluster's keys over TLS; the token pins the cluster's authority and is good for a day,
running the command again renews it. Guard it: whoever has it gets the keys.

When both have joined, troupe starts again here as one of three and moves the state over, with all
revisions and with the consumers of the change stream; the API is away meanwhile. Whatever is killed on
the way goes on when troupe up is started again on the same folder.`,
		Example: `  troupe members grow --member-addr 10.0.0.1:6222`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMembersGrow(cmd.Context(), dataDir, addr, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	c.Flags().StringVar(&addr, "member-addr", "", "host:port where the other machines reach this one")
	return c
}

func runMembersGrow(ctx context.Context, dataDir, addr string, out io.Writer) error {
	r, dir, err := reach(dataDir)
	if err != nil {
		return err
	}
	if r.Outside != nil {
		return errors.New("the state is in NATS outside: start further control planes with the same --nats-url and keys")
	}
	token, at, err := cluster.Grow(ctx, dir, r.NATS, r.Region, r.Node, addr)
	if err != nil {
		return fmt.Errorf("let others join: %w; is troupe up?", err)
	}
	fmt.Fprintf(out, "run this on two other machines, with the address of each:\n\n  troupe up --join %s --member-addr ADDRESS:6222 --token %s\n\nthen three keep the state; troupe members ls shows how far it is\n", at, token)
	return nil
}

func newMembersShrink() *cobra.Command {
	var dataDir, lost string
	c := &cobra.Command{
		Use:   "shrink",
		Short: "Leave this machine alone with the state",
		Long: `Make the control plane of three one of its own again, on this machine. The others leave: their API ends,
they stay up until this machine has the state, and then end. The state keeps all revisions.

Whatever is killed on the way goes on when troupe up is started again on the same folder. At least one
of the others must be up.

When the machine that was to be left alone dies for good before it is, the two others still have the
whole state between them: run the command on one of them with --lost and the name of the dead one. It
must not come back with the state it may have taken already.`,
		Example: `  troupe members shrink
  troupe members shrink --lost node-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMembersShrink(cmd.Context(), dataDir, lost, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	c.Flags().StringVar(&lost, "lost", "", "member that was to be left alone and is gone for good")
	return c
}

func runMembersShrink(ctx context.Context, dataDir, lost string, out io.Writer) error {
	r, dir, err := reach(dataDir)
	if err != nil {
		return err
	}
	if err := cluster.Shrink(ctx, dir, r.NATS, r.Region, r.Node, lost); err != nil {
		return fmt.Errorf("leave this machine alone: %w; is troupe up?", err)
	}
	fmt.Fprintln(out, "the others leave; troupe members ls shows how far it is")
	return nil
}

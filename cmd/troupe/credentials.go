package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

func newCredentials(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "credentials NAME DIR",
		Short: "Let another program follow the changes, and nothing else",
		Long: `Write a folder with what any NATS client needs to read the change stream: ca.crt, tls.crt and
tls.key, good for a year. NAME names the program; it shall be its own.`,
		Example: `  troupe events credentials billing ./billing-nats`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCredentials(*dataDir, args[0], args[1], cmd.OutOrStdout())
		},
	}
}

func runCredentials(dataDir, name, to string, out io.Writer) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	r, err := readRunning(dir)
	if err != nil {
		return err
	}
	if r.Outside != nil {
		return fmt.Errorf("the state is in NATS at %s, which is not ours; make a user there that may subscribe to %s>", r.NATS, messages.ChangePrefix(r.Region))
	}
	if err := cluster.WriteObserver(dir, name, to); err != nil {
		return err
	}
	fmt.Fprintf(out, "url           %s\ninbox prefix  %s\nsubjects      %s>\nstream        %s\n",
		r.NATS, bus.ObserverInbox(name), messages.ChangePrefix(r.Region), messages.ChangeStream)
	return nil
}

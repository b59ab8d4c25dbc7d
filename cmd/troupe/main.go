// Command troupe is a container orchestrator that speaks the Kubernetes API: the whole cluster in
// one process. Each file holds one subcommand; run troupe --help for the list.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	err := newRoot().ExecuteContext(ctx)
	stop()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "troupe: "+oneLine(err))
		os.Exit(1)
	}
}

// endings are the signals that ask the program to end: with its terminal, too, unless it was started
// with nohup.
func endings() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// exitCode ends the program with a code; whatever there was to say has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "troupe",
		Short: "A container orchestrator that speaks the Kubernetes API",
		Long: `troupe runs a Kubernetes-compatible cluster in one process.

  troupe up                    start a cluster here
  troupe kubectl get pods -A   look at it, or point any kubectl at the kubeconfig
  troupe down                  stop it and its containers; the data stays`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newUp(), newDown(), newReset(), newKubectl(), newImage(), newEvents(), newHistory(), newBackup(), newRestore(), newSecrets(), newMembers(), newVersion())
	return root
}

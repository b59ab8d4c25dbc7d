package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
)

func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [command]",
		Short: "Run kubectl on the cluster of this machine",
		Long: `Run kubectl, built in, with the kubeconfig that troupe up wrote.

KUBECONFIG and --kubeconfig are honoured as usual. TROUPE_DATA_DIR names the data folder when it is
not the default one.`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if os.Getenv("KUBECONFIG") == "" {
				file := filepath.Join(defaultDataDir(), "kubeconfig")
				if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) && needsCluster(args) {
					return fmt.Errorf("no cluster has been started on %s; start one with troupe up, or name its folder in TROUPE_DATA_DIR", defaultDataDir())
				}
				if err := os.Setenv("KUBECONFIG", file); err != nil {
					return err
				}
			}
			// kubectl ends by signals as programs do that know of none: not all of it heeds a context.
			signal.Reset(endings()...)
			k := newKubectlCommand(args)
			k.SetArgs(args)
			return k.ExecuteContext(c.Context())
		},
	}
}

// needsCluster says whether a kubectl command makes no sense without the cluster of this machine:
// kubectl itself would ask one at localhost:8080.
func needsCluster(args []string) bool {
	for _, a := range args {
		for _, elsewhere := range []string{"--kubeconfig", "--server", "-s", "--help", "-h", "--client"} {
			if a == elsewhere || strings.HasPrefix(a, elsewhere+"=") {
				return false
			}
		}
	}
	if len(args) == 0 {
		return false
	}
	return !slices.Contains([]string{"help", "completion", "__complete", "config", "kustomize", "options", "plugin"}, args[0])
}

// newKubectlCommand is kubectl as its own binary makes it, plugins included.
func newKubectlCommand(args []string) *cobra.Command {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	return cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     append([]string{"kubectl"}, args...),
		ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
		IOStreams:     streams,
	})
}

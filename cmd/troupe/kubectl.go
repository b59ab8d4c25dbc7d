package main

import (
	"os"
	"path/filepath"

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
				if err := os.Setenv("KUBECONFIG", filepath.Join(defaultDataDir(), "kubeconfig")); err != nil {
					return err
				}
			}
			k := newKubectlCommand(args)
			k.SetArgs(args)
			return k.ExecuteContext(c.Context())
		},
	}
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

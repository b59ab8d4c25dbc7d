package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is this program's own; the Kubernetes API it serves has another.
const version = "0.1.0"

// kubernetesVersion is the release of the Kubernetes API that is served.
const kubernetesVersion = "v1.36.6"

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "troupe %s (Kubernetes API %s, %s %s/%s)\n",
				version, kubernetesVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

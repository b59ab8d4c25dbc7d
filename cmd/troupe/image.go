package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/node/image"
)

func newImage() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "image",
		Short: "Import and list the images of this node",
	}
	c.PersistentFlags().StringVar(&dir, "data-dir", defaultDataDir(), "folder of the cluster (TROUPE_DATA_DIR)")
	c.AddCommand(&cobra.Command{
		Use:   "import FILE...",
		Short: "Import OCI or docker archives (- reads standard input)",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return withHost(cmd.Context(), dir, func(h *host.Host) error {
				for _, f := range files {
					if err := importImage(cmd.Context(), h, f, cmd.InOrStdin(), cmd.OutOrStdout()); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}, &cobra.Command{
		Use:   "ls",
		Short: "List images",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withHost(cmd.Context(), dir, func(h *host.Host) error { return listImages(cmd.Context(), h, cmd.OutOrStdout()) })
		},
	})
	return c
}

// withHost opens the containerd of a cluster, which runs on afterwards.
func withHost(ctx context.Context, dir string, do func(*host.Host) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	r, err := readRunning(dir)
	if err != nil {
		return err
	}
	if r.Runtime != runtimeContainerd {
		return fmt.Errorf("the cluster on %s runs simulated containers: it needs no images", dir)
	}
	h, err := host.Connect(ctx, host.Config{DataDir: dir, Address: r.ContainerdAddress, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.Close())
}

func importImage(ctx context.Context, h *host.Host, file string, in io.Reader, out io.Writer) error {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	// It is kept when unused images are removed: there may be no registry to get it from again.
	got, err := image.Import(ctx, h.Client(), in, image.ImportOptions{Pinned: true, Snapshotter: h.Snapshotter()})
	if err != nil {
		return fmt.Errorf("import %s: %w", file, err)
	}
	for _, i := range got {
		fmt.Fprintf(out, "imported %s (%s, %s)\n", i.Name, bytesText(i.Size), i.Digest)
	}
	return nil
}

func listImages(ctx context.Context, h *host.Host, out io.Writer) error {
	images, err := image.List(ctx, h.Client())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tSIZE\tDIGEST")
	for _, i := range images {
		fmt.Fprintf(w, "%s\t%s\t%.19s\n", i.Name, bytesText(i.Size), i.Digest)
	}
	return w.Flush()
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
}

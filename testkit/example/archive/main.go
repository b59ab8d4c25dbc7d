// Command archive builds the example application's image and writes it as an OCI archive to
// standard output. Run it inside troupe's source.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/troupe-run/troupe/testkit/example"
	"github.com/troupe-run/troupe/testkit/image"
)

func main() {
	if _, err := image.Build(context.Background(), example.Image("."), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "archive:", err)
		os.Exit(1)
	}
}

package testkit

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
)

// Kubectl runs kubectl against the cluster and returns what it printed, both streams together. It
// skips the test where there is no kubectl, and fails it when kubectl does.
func (c *Cluster) Kubectl(args ...string) string {
	c.t.Helper()
	return c.KubectlInput("", args...)
}

// KubectlInput is Kubectl with something to read: c.KubectlInput(manifest, "apply", "-f", "-").
func (c *Cluster) KubectlInput(input string, args ...string) string {
	c.t.Helper()
	out, err := c.kubectl(input, args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// KubectlFails runs kubectl, which has to fail, and returns what it printed.
func (c *Cluster) KubectlFails(args ...string) string {
	c.t.Helper()
	out, err := c.kubectl("", args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		c.t.Fatalf("kubectl %s did not fail (%v):\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *Cluster) kubectl(input string, args ...string) (string, error) {
	c.t.Helper()
	cmd := c.KubectlCommand(args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := cmd.Run()
	return out.String(), err
}

// KubectlCommand is a kubectl command to start at will. It ends with the test. Its caches are the
// test's own.
func (c *Cluster) KubectlCommand(args ...string) *exec.Cmd {
	c.t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		c.t.Skip("there is no kubectl here")
	}
	if c.kubeconfig == "" {
		c.kubeconfig = c.Kubeconfig()
		c.cache = c.t.TempDir()
	}
	return exec.CommandContext(c.t.Context(), path, append([]string{"--kubeconfig", c.kubeconfig, "--cache-dir", c.cache}, args...)...)
}

package main

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKubectlEndsWhenAsked signals commands of kubectl that go on for ever.
func TestKubectlEndsWhenAsked(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	w.apply(`{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default}, spec: {containers: [{name: c, image: "a:1", stdin: true}]}}`)
	w.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")
	for said, args := range map[string][]string{
		"Forwarding from": {"port-forward", "p", ":80"},
		"Running":         {"get", "pods", "-w"},
	} {
		cmd, out := command(append([]string{"kubectl"}, args...)...), &output{}
		cmd.Env = append(cmd.Env, "KUBECONFIG="+filepath.Join(w.dir, "kubeconfig"))
		cmd.Stdout, cmd.Stderr = out, out
		stdin, err := cmd.StdinPipe() // which nobody closes
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		within(t, 30*time.Second, strings.Join(args, " ")+" is under way", func() error {
			if !strings.Contains(out.String(), said) {
				return errors.New(out.String())
			}
			return nil
		})
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%q goes on after SIGTERM:\n%s", args, out)
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = stdin.Close()
	}
}

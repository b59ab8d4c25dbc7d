package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// crashDir names the data folder for the child process of TestKillKeepsAcknowledged.
const crashDir = "TROUPE_TEST_CRASH_DIR"

// crashingWriter writes from many goroutines and prints each acknowledged write, until killed.
func crashingWriter(dir string) {
	ctx := context.Background()
	b, err := bus.Start(ctx, bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		panic(err)
	}
	s, err := state.Open(ctx, state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	for w := range 32 {
		go func() {
			for i := 0; ; i++ {
				p := pod(fmt.Sprintf("p-%d-%d", w, i), "")
				data, err := s.Encode(messages.Pods, p)
				if err != nil {
					panic(err)
				}
				rev, err := s.Commit(ctx, state.Op{Key: podKey(p.Name), Object: p, Data: data})
				if err != nil {
					panic(err)
				}
				out.Lock()
				fmt.Println(p.Name, rev)
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKillKeepsAcknowledged kills a writing process and finds all it had acknowledged, at the
// revisions it had said.
func TestKillKeepsAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]string{}
	for round := range 2 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir+"/"+strconv.Itoa(round))
		child.Stderr = os.Stderr
		pipe, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		clear(acked)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			// The last line may be cut short by the kill; it ends in a newline or does not count.
			name, rev, ok := strings.Cut(lines.Text(), " ")
			if ok {
				acked[name] = rev
			}
			if len(acked) == 1000+round {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		_ = child.Wait()
		s := open(t, startBus(t, child.Env[len(child.Env)-1][len(crashDir)+1:]), nil)
		for name, rev := range acked {
			if o, ok := s.Get(podKey(name)); !ok || o.GetResourceVersion() != rev {
				t.Errorf("%s was acknowledged at %s, found %v", name, rev, o)
			}
		}
		if len(acked) < 1000 {
			t.Errorf("only %d writes were acknowledged", len(acked))
		}
	}
}

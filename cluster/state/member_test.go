package state_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/troupe-run/troupe/cluster/auth"
)

var memberRounds = flag.Int("member-rounds", 1, "how often TestMembersAreOneStore goes through all troubles")

const (
	memberCount   = 3
	memberKeys    = 12
	memberWorkers = 8
	callTimeout   = 12 * time.Second
	// steadyOps is how much is done between two troubles.
	steadyOps = 300
	// gapWait is how long the test waits for the members to serve again after each trouble.
	gapWait = 40 * time.Second
)

// members is a control plane's state in three processes, with a proxy on each way between two.
type members struct {
	t       *testing.T
	setups  [memberCount]memberSetup
	proxies [memberCount][memberCount]*proxy

	mu      sync.Mutex
	procs   [memberCount]*memberProc
	leads   [memberCount]bool
	changed chan struct{} // closed when something above changes

	history history
}

// memberProc is one life of a member.
type memberProc struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	gone  chan struct{}
	ready bool

	mu    sync.Mutex
	next  int
	calls map[int]chan memberSays
}

func startMembers(t *testing.T) *members {
	c := &members{t: t, changed: make(chan struct{})}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if _, err := auth.Open(auth.Config{Dir: keys}); err != nil {
		t.Fatal(err)
	}
	for i := range memberCount {
		c.setups[i] = memberSetup{Name: fmt.Sprint("m", i), Dir: filepath.Join(dir, fmt.Sprint("m", i)), Keys: keys, Debug: os.Getenv("TROUPE_TEST_DEBUG") != ""}
		if err := os.MkdirAll(c.setups[i].Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range memberCount {
			if i != j {
				c.proxies[i][j] = newProxy(t)
				c.setups[i].Peers = append(c.setups[i].Peers, c.proxies[i][j].addr())
			}
		}
	}
	for i := range memberCount {
		c.start(i)
	}
	return c
}

// update changes what the members are known to be and wakes who waits for it.
func (c *members) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until something is so.
func (c *members) await(what string, is func() bool) {
	c.t.Helper()
	end := time.After(gapWait)
	for {
		c.mu.Lock()
		ok, changed := is(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-end:
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (c *members) start(i int) {
	c.t.Helper()
	setup, err := json.Marshal(c.setups[i])
	if err != nil {
		c.t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), memberEnv+"="+string(setup))
	cmd.Stderr = c.t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	p := &memberProc{cmd: cmd, in: in, gone: make(chan struct{}), calls: map[int]chan memberSays{}}
	c.update(func() { c.procs[i] = p })
	go c.listen(i, p, out)
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.gone
	})
}

// listen takes what a member says until it is gone.
func (c *members) listen(i int, p *memberProc, out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var says memberSays
		if json.Unmarshal(lines.Bytes(), &says) != nil {
			continue
		}
		switch {
		case says.Addr != "":
			for j := range memberCount {
				if j != i {
					c.proxies[j][i].lead(says.Addr)
				}
			}
		case says.Ready:
			c.update(func() { p.ready = true })
		case says.Leads != nil:
			c.update(func() { c.leads[i] = *says.Leads })
		default:
			p.mu.Lock()
			answer := p.calls[says.ID]
			delete(p.calls, says.ID)
			p.mu.Unlock()
			if answer != nil {
				answer <- says
			}
		}
	}
	_ = p.cmd.Wait()
	close(p.gone)
	c.update(func() { c.leads[i], p.ready = false, false })
}

// call asks member i; nobody knows the outcome when it dies meanwhile.
func (c *members) call(i int, call memberCall) memberSays {
	c.mu.Lock()
	p := c.procs[i]
	c.mu.Unlock()
	answer := make(chan memberSays, 1)
	p.mu.Lock()
	p.next++
	call.ID, call.Timeout = p.next, callTimeout
	p.calls[call.ID] = answer
	data, _ := json.Marshal(call)
	_, err := p.in.Write(append(data, '\n'))
	p.mu.Unlock()
	if err != nil {
		return memberSays{Outcome: unknown}
	}
	select {
	case says := <-answer:
		return says
	case <-p.gone:
		return memberSays{Outcome: unknown}
	}
}

func (c *members) leader() int {
	for i, leads := range c.leads {
		if leads {
			return i
		}
	}
	return -1
}

// awaitLeader waits for a leader that is not the one given, and returns it.
func (c *members) awaitLeader(not int) (leader int) {
	c.t.Helper()
	c.await("a leader", func() bool {
		for i, leads := range c.leads {
			if leads && i != not {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

func (c *members) awaitReady(i int) {
	c.t.Helper()
	c.await(c.setups[i].Name+" to be ready", func() bool { return c.procs[i].ready })
}

func (c *members) kill(i int) {
	c.mu.Lock()
	p := c.procs[i]
	c.mu.Unlock()
	_ = p.cmd.Process.Kill()
	<-p.gone
}

func (c *members) stop(i int) {
	c.mu.Lock()
	p := c.procs[i]
	c.mu.Unlock()
	p.mu.Lock()
	_, _ = p.in.Write([]byte("{\"Stop\":true}\n"))
	p.mu.Unlock()
	select {
	case <-p.gone:
	case <-time.After(gapWait):
		c.t.Errorf("%s does not stop", c.setups[i].Name)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Errorf("%s ended with %d", c.setups[i].Name, code)
	}
}

// part takes member i off the network, or brings it back.
func (c *members) part(i int, cut, blocked bool) {
	for j := range memberCount {
		if j != i {
			c.proxies[i][j].set(cut, blocked)
			c.proxies[j][i].set(cut, blocked)
		}
	}
}

// works waits until a write through each of the members given is done.
func (c *members) works(which ...int) {
	c.t.Helper()
	begun := time.Now()
	for _, i := range which {
		for {
			key := fmt.Sprintf("probe-%d-%d", i, rand.Uint64())
			if says := c.call(i, memberCall{Key: key, Value: "x"}); says.Outcome == done {
				break
			}
			if time.Since(begun) > gapWait {
				c.t.Fatalf("%s does not serve", c.setups[i].Name)
			}
		}
	}
}

// load lets workers read and write until the function it returns is called.
func (c *members) load() (end func()) {
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for w := range memberWorkers {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), rand.Uint64()))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c.act(w, r, fmt.Sprintf("%d-%d", w, c.history.number()))
			}
		})
	}
	return func() {
		close(stop)
		workers.Wait()
	}
}

// run lets the load go on for a number of operations.
func (c *members) run(count int) {
	c.t.Helper()
	want := c.history.done() + count
	for end := time.Now().Add(gapWait); c.history.done() < want; {
		if time.Now().After(end) {
			c.t.Fatal("the load has come to a halt")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// act reads a key at one member and, mostly, changes it at another by what was read.
func (c *members) act(worker int, r *rand.Rand, value string) {
	key := fmt.Sprint("k", r.IntN(memberKeys))
	read := c.do(worker, r.IntN(memberCount), registerOp{key: key})
	if read.Outcome != done {
		return
	}
	switch n := r.IntN(10); {
	case n < 2:
	case n < 3 && read.Value != "":
		c.do(worker, r.IntN(memberCount), registerOp{key: key, write: true, from: read.Value, rev: read.Rev})
	default:
		c.do(worker, r.IntN(memberCount), registerOp{key: key, write: true, from: read.Value, rev: read.Rev, to: value})
	}
}

func (c *members) do(worker, member int, op registerOp) memberSays {
	begun := c.history.now()
	says := c.call(member, memberCall{Key: op.key, Value: op.to, Expect: op.rev})
	if ourOwnFault(says.Text) {
		c.t.Error(says.Text)
	}
	c.history.add(worker, op, says, begun)
	return says
}

// TestMembersAreOneStore kills, stops and cuts off members that are written to and read from all the
// time, and checks that what the clients saw is what one store would have shown: no acknowledged write
// is lost, no compare-and-swap is won twice, every read shows the newest state.
func TestMembersAreOneStore(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes for most of a minute")
	}
	t.Parallel()
	c := startMembers(t)
	for i := range memberCount {
		c.awaitReady(i)
	}
	leader := c.awaitLeader(-1)
	c.works(0, 1, 2)
	end := c.load()
	c.run(steadyOps)
	gap := func(what string, begun time.Time) { t.Logf("%s: %.1f s", what, time.Since(begun).Seconds()) }
	for range *memberRounds {
		begun := time.Now()
		c.kill(leader)
		killed := leader
		leader = c.awaitLeader(killed)
		c.works(leader)
		gap("leader killed, writes again after", begun)
		c.start(killed)
		c.awaitReady(killed)
		c.works(0, 1, 2)
		c.run(steadyOps)

		follower := (leader + 1) % memberCount
		begun = time.Now()
		c.kill(follower)
		c.works(leader)
		gap("follower killed, writes again after", begun)
		c.start(follower)
		c.awaitReady(follower)
		c.works(0, 1, 2)
		c.run(steadyOps)

		leader = c.awaitLeader(-1)
		begun = time.Now()
		c.part(leader, false, true)
		parted := leader
		leader = c.awaitLeader(parted)
		c.works(leader)
		gap("leader cut off, writes again after", begun)
		c.part(parted, false, false)
		c.works(0, 1, 2)
		c.run(steadyOps)

		follower = (leader + 1) % memberCount
		c.part(follower, true, false)
		c.works(leader)
		c.part(follower, false, false)
		c.works(0, 1, 2)
		c.run(steadyOps)

		c.mu.Lock()
		leader = c.leader()
		c.mu.Unlock()
		begun = time.Now()
		c.stop(leader)
		stopped := leader
		leader = c.awaitLeader(stopped)
		c.works(leader)
		gap("leader stopped in order, writes again after", begun)
		c.start(stopped)
		c.awaitReady(stopped)
		c.works(0, 1, 2)
	}
	end()
	for i := range memberCount {
		for k := range memberKeys {
			if says := c.do(memberWorkers, i, registerOp{key: fmt.Sprint("k", k)}); says.Outcome != done {
				t.Errorf("last read of k%d at %s: %s", k, c.setups[i].Name, says.Text)
			}
		}
	}
	c.history.check(t)
	for i := range memberCount {
		c.stop(i)
	}
}

// registerOp is a read or a compare-and-swap of one key. Every value is written once, so that a value
// stands for its revision; "" is a key that does not exist.
type registerOp struct {
	key      string
	write    bool
	from, to string
	rev      uint64
}

// history is what clients did and saw.
type history struct {
	mu    sync.Mutex
	begun time.Time
	count int
	ops   []porcupine.Operation
	revs  map[string]uint64 // of each value
	bad   []string
}

func (h *history) done() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

func (h *history) number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	return h.count
}

func (h *history) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.begun.IsZero() {
		h.begun = time.Now()
	}
	return int64(time.Since(h.begun))
}

// forever is when an operation ends of which nobody knows the outcome: it may be done at any time,
// also when nobody looks any more.
const forever = int64(1) << 62

func (h *history) add(client int, op registerOp, says memberSays, begun int64) {
	ended := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if says.Outcome == unknown {
		if !op.write {
			return
		}
		ended = forever
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Output: says, Call: begun, Return: ended})
	if h.revs == nil {
		h.revs = map[string]uint64{}
	}
	value := says.Value
	if op.write {
		value = op.to
	}
	if says.Outcome == done && value != "" {
		if rev := h.revs[value]; rev != 0 && rev != says.Rev {
			h.bad = append(h.bad, fmt.Sprintf("%s has revisions %d and %d", value, rev, says.Rev))
		}
		h.revs[value] = says.Rev
	}
}

// register is the model: a value per key.
var register = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range ops {
			key := op.Input.(registerOp).key
			byKey[key] = append(byKey[key], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		have, op, says := state.(string), input.(registerOp), output.(memberSays)
		switch {
		case !op.write:
			return have == says.Value, have
		case says.Outcome == done:
			return have == op.from, op.to
		case says.Outcome == refused:
			return have != op.from, have
		case have == op.from: // unknown
			return true, op.to
		}
		return true, have
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

func (h *history) check(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	outcomes := map[string]int{}
	for _, op := range h.ops {
		kind := "read "
		if op.Input.(registerOp).write {
			kind = "write "
		}
		outcomes[kind+op.Output.(memberSays).Outcome]++
	}
	t.Logf("%d operations: %v", len(h.ops), outcomes)
	for _, bad := range h.bad {
		t.Error(bad)
	}
	if outcomes["write "+done] < 100 {
		t.Error("too few writes to prove anything")
	}
	result, info := porcupine.CheckOperationsVerbose(register, h.ops, 30*time.Second)
	if result == porcupine.Ok {
		return
	}
	file := filepath.Join(os.TempDir(), "troupe-members.html")
	t.Errorf("the history is not that of one store (%s); see %s: %v", result, file, porcupine.VisualizePath(register, info, file))
}

package node

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/server"
)

// Shorthands for the states of a container.
func waits(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func goes() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func past(id string) corev1.ContainerState {
	t := &corev1.ContainerStateTerminated{}
	if id != "" {
		t.ContainerID = "containerd://" + id
	}
	return corev1.ContainerState{Terminated: t}
}

func TestWhichRunIsLogged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		id          string // of the container in the status
		state, last corev1.ContainerState
		previous    bool
		want        string // the run, or what the user reads
	}{
		{name: "running", id: "a", state: goes(), want: "run a"},
		{name: "running again", id: "b", state: goes(), last: past("a"), want: "run b"},
		{name: "the one before", id: "b", state: goes(), last: past("a"), previous: true, want: "run a"},
		{name: "none before", id: "a", state: goes(), previous: true, want: `previous terminated container "web" in pod "p" not found`},
		{name: "ended", id: "a", state: past("a"), want: "run a"},
		{name: "ended again", id: "b", state: past("b"), last: past("a"), previous: true, want: "run a"},
		{name: "waits after a crash", id: "a", state: waits("CrashLoopBackOff"), last: past("a"), want: "run a"},
		{name: "the crash itself", id: "a", state: waits("CrashLoopBackOff"), last: past("a"), previous: true, want: "run a"},
		{name: "ended without a run", state: past(""), want: `container "web" in pod "p" is terminated`},
		{name: "ended without a run, after one", state: past(""), last: past("a"), want: "run a"},
		{name: "on its way", state: waits("ContainerCreating"), want: `container "web" in pod "p" is waiting to start: ContainerCreating`},
		{name: "after others", state: waits("PodInitializing"), want: `container "web" in pod "p" is waiting to start: PodInitializing`},
		{name: "not configured", state: waits("CreateContainerConfigError"), want: `container "web" in pod "p" is waiting to start: CreateContainerConfigError`},
		{name: "no image", state: waits("ErrImagePull"), want: `container "web" in pod "p" is waiting to start: image can't be pulled`},
		{name: "still no image", state: waits("ImagePullBackOff"), want: `container "web" in pod "p" is waiting to start: trying and failing to pull image`},
		{name: "waiting, none before", state: waits("ContainerCreating"), previous: true, want: `previous terminated container "web" in pod "p" not found`},
		{name: "nothing known", want: `container "web" in pod "p" is waiting to start - no logs yet`},
	}
	of := server.Container{Namespace: "default", Pod: "p", Name: "web"}
	for _, tt := range tests {
		c := corev1.ContainerStatus{Name: "web", State: tt.state, LastTerminationState: tt.last}
		if tt.id != "" {
			c.ContainerID = "containerd://" + tt.id
		}
		for _, st := range []corev1.PodStatus{
			{ContainerStatuses: []corev1.ContainerStatus{{Name: "other"}, c}},
			{InitContainerStatuses: []corev1.ContainerStatus{c}},
			{EphemeralContainerStatuses: []corev1.ContainerStatus{c}},
		} {
			id, err := logOf(&st, of, tt.previous)
			got := "run " + id
			if err != nil {
				got = err.Error()
				if !errors.Is(err, messages.ErrInvalid) {
					t.Errorf("%s: %v is no bad request", tt.name, err)
				}
			}
			if got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	if _, err := logOf(&corev1.PodStatus{}, of, false); err == nil || err.Error() != `container "web" in pod "p" is not available` {
		t.Errorf("a container nobody knows: %v", err)
	}
}

func TestWhatRunsTakesCommands(t *testing.T) {
	t.Parallel()
	c := containers{find: func(_, name string) (pod.View, bool) {
		return pod.View{
			Status: &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "web", ContainerID: "containerd://gone", State: goes()}}},
			Runs:   []pod.Run{{Container: "web", ID: "b", Running: true}, {Container: "web", ID: "a"}, {Container: "log", ID: "c"}},
		}, name == "p"
	}}
	for _, tt := range []struct {
		of    server.Container
		want  string
		class error
	}{
		{server.Container{Pod: "p", Name: "web"}, "b", nil},
		{server.Container{Pod: "p", Name: "log"}, `container not found ("log")`, nil},
		{server.Container{Pod: "p", Name: "none"}, `container not found ("none")`, nil},
		{server.Container{Pod: "q", Name: "web"}, `pod "q" does not exist`, messages.ErrNotFound},
	} {
		run, err := c.running(tt.of)
		got := run.ID
		if err != nil {
			got = err.Error()
		}
		if got != tt.want || tt.class != nil && !errors.Is(err, tt.class) {
			t.Errorf("%+v: %s, want %s", tt.of, got, tt.want)
		}
	}
	if _, err := c.logged(server.Container{Pod: "p", Name: "web"}, false); err == nil || err.Error() != "unable to retrieve container logs for gone" {
		t.Errorf("the log of a run that was cleared away: %v", err)
	}
}

func TestPortsAreDialedByAddress(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	open := uint16(l.Addr().(*net.TCPAddr).Port)
	none, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut := uint16(none.Addr().(*net.TCPAddr).Port)
	if err := none.Close(); err != nil {
		t.Fatal(err)
	}
	facts := &atomic.Pointer[pod.Facts]{}
	c := containers{facts: facts, find: func(_, name string) (pod.View, bool) {
		v := pod.View{Status: &corev1.PodStatus{}}
		if name == "up" {
			v.Status.PodIP = "127.0.0.1"
		}
		return v, name != "none"
	}}
	if _, err := c.Dial(t.Context(), "", "", open); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("a node without an address: %v", err)
	}
	facts.Store(&pod.Facts{HostIPs: []string{"127.0.0.1"}})
	for _, tc := range []struct {
		pod  string
		port uint16
		want error
	}{
		{"up", open, nil}, {"", open, nil}, {"up", shut, messages.ErrUnavailable}, {"starting", open, messages.ErrUnavailable}, {"none", open, messages.ErrNotFound},
	} {
		conn, err := c.Dial(t.Context(), "default", tc.pod, tc.port)
		if !errors.Is(err, tc.want) {
			t.Errorf("pod %q: %v, want %v", tc.pod, err, tc.want)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(conn); string(got) != "hello" {
			t.Errorf("pod %q: it says %q, %v", tc.pod, got, err)
		}
		_ = conn.Close()
	}
}

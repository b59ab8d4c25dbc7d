package state_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

var secrets = state.Resource{
	Resource: messages.Secrets,
	Kind:     corev1.SchemeGroupVersion.WithKind("Secret"),
	New:      func() objects.Object { return &corev1.Secret{} },
}

// TestSecretsAreSealed reads what subscribers and the disk get to see of a secret.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBus(t, dir)
	with := func(c *state.Config) {
		c.Resources = append(c.Resources, secrets)
		c.Changes = &state.Changes{}
	}
	s := open(t, b, with)
	spy, err := b.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, StringData: map[string]string{"password": "hunter2"}}
	key := messages.KeyOf(messages.Secrets, "ns", "s")
	data, err := s.Encode(messages.Secrets, secret)
	if err != nil {
		t.Fatal(err)
	}
	rev := commit(t, s, state.Op{Key: key, Object: secret, Data: data})
	commit(t, s, op(t, s, pod("open", ""), 0))
	changes := 0
	for changes < 2 {
		m, err := spy.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := messages.ParseChange(m.Subject); err == nil {
			changes++
		}
		if bytes.Contains(m.Data, []byte("hunter2")) {
			t.Errorf("%s shows the secret", m.Subject)
		}
	}
	want, _ := s.Get(key)
	again := open(t, b, with)
	got, _ := again.Get(key)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
	commit(t, again, state.Op{Key: key, Expect: rev})
	noneShows(t, dir, b)
	info, err := os.Stat(filepath.Join(dir, "sealing.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}

func TestLostKeyIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBus(t, dir)
	s := open(t, b, func(c *state.Config) { c.Sealed = []messages.Resource{messages.Pods} })
	commit(t, s, op(t, s, pod("a", ""), 0))
	if err := os.Remove(filepath.Join(dir, "sealing.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()}); err == nil {
		t.Error("opened a bucket without its key")
	}
}

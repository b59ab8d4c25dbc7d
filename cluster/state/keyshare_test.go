package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// keepingKeys lets stores keep Secrets, and their sealing keys in the bucket.
func keepingKeys(c *Config) {
	c.Resources = append(c.Resources, Resource{Resource: messages.Secrets, New: func() objects.Object { return &corev1.Secret{} }})
	c.KeyWrap = make([]byte, keySize)
}

func secretOp(t *testing.T, s *Store, name string) Op {
	t.Helper()
	obj := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"word": []byte("tulip")}}
	data, err := s.Encode(messages.Secrets, obj)
	if err != nil {
		t.Fatal(err)
	}
	return Op{Key: messages.KeyOf(messages.Secrets, "ns", name), Object: obj, Data: data}
}

// sealedWith counts the Secrets in the bucket by the key they are sealed with.
func sealedWith(t *testing.T, s *Store) map[string]int {
	t.Helper()
	newest, err := s.newestRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	err = s.readUntil(t.Context(), 1, func(r raw) (bool, error) {
		if _, key, err := messages.ParseStateSubject(r.subject); err == nil && key.Resource == messages.Secrets {
			out[r.header.Get(messages.HeaderSealed)]++
		}
		return r.seq >= newest, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRotationReachesEveryMember changes the sealing key while members, each with a file of its own, share a
// bucket; one was away meanwhile, and another comes to lead before all is done.
func TestRotationReachesEveryMember(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t, keepingKeys)
	dir := leader.cfg.Bus.DataDir()
	before, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	follower.seals.path = filepath.Join(t.TempDir(), keyFile)
	const count = 20
	for i := range count / 2 {
		do(t, leader, secretOp(t, leader, fmt.Sprint("l", i)))
		do(t, follower, secretOp(t, follower, fmt.Sprint("f", i)))
	}
	old := leader.Sealing().Key
	if err := leader.Rotate(t.Context(), func(Sealing) {}); err != nil {
		t.Fatal(err)
	}
	first := leader.Sealing().Key
	if got := sealedWith(t, leader); first == old || got[first] != count {
		t.Fatalf("after the rotation from %s to %s: %v", old, first, got)
	}
	op := secretOp(t, follower, "after")
	do(t, follower, op)
	if got := sealedWith(t, leader); got[first] != count+1 {
		t.Errorf("a write of the follower's: %v", got)
	}
	ring, err := loadKeyring(filepath.Dir(follower.seals.path))
	if err != nil || ring[0].id != first {
		t.Errorf("the follower's file: %v, %v", ring, err)
	}

	// One that was away knows the old key only.
	if err := os.WriteFile(filepath.Join(dir, keyFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := follower.cfg
	away, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := away.Get(op.Key)
	if !ok || string(e.(*corev1.Secret).Data["word"]) != "tulip" || away.Sealing().Key != first {
		t.Errorf("one that was away has %v, key %s", e, away.Sealing().Key)
	}
	closing, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	if err := away.Close(closing); err != nil {
		t.Fatal(err)
	}

	// The leader goes when it has begun.
	if err := leader.sealing.begin(); err != nil {
		t.Fatal(err)
	}
	end, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := leader.StepDown(end); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		now, moved, _ := follower.sealingNow()
		if now.Left == 0 && now.Key != first {
			break
		}
		select {
		case <-moved:
		case <-time.After(time.Until(end)):
			t.Fatalf("the next leader does not go on: %+v", now)
		}
	}
	if got := sealedWith(t, leader); got[follower.Sealing().Key] != count+1 {
		t.Errorf("in the end: %v", got)
	}
}

// TestSealingKeysOfAnotherAuthority opens a bucket whose keys are wrapped with another secret.
func TestSealingKeysOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	_, follower := openTwo(t, keepingKeys)
	cfg := follower.cfg
	cfg.KeyWrap = append([]byte{1}, make([]byte, keySize-1)...)
	if _, err := Open(t.Context(), cfg); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("opened: %v", err)
	}
	cfg.KeyWrap = []byte{1}
	if err := cfg.Check(); err == nil {
		t.Error("a short secret is good")
	}
}

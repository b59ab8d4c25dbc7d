package main

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"testing"

	"k8s.io/klog/v2"
)

// TestLastWordsAreHeard has klog say things; it must not run beside tests that start troupe here.
func TestLastWordsAreHeard(t *testing.T) {
	var out bytes.Buffer
	state, exit := klog.CaptureState(), klog.OsExit
	defer func() {
		state.Restore()
		klog.OsExit = exit
	}()
	klog.OsExit = func(int) { runtime.Goexit() }
	routeKlog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	for _, tt := range []struct {
		name string
		say  func()
		want string
	}{
		{"information", func() { klog.Info("a") }, ""},
		{"structured information", func() { klog.InfoS("a", "b", 1) }, ""},
		{"a warning", func() { klog.Warning("a") }, ""},
		{"an error", func() { klog.Error("a") }, "level=ERROR msg=a\n"},
		{"a fatal error", func() { klog.Fatalf("PostStartHook %q failed: %v", "x", context.Canceled) }, `level=ERROR msg="PostStartHook \"x\" failed: context canceled"` + "\n"},
		{"a fatal error in depth", func() { klog.FatalDepth(1, "a") }, "level=ERROR msg=a\n"},
		{"an exit", func() { klog.Exit("a") }, "level=ERROR msg=a\n"},
	} {
		out.Reset()
		done := make(chan struct{})
		go func() {
			defer close(done)
			tt.say()
		}()
		<-done
		if got := out.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

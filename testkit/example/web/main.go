// Command web is the example application: a small web server that shows which pod answered, how it
// is configured and how many requests it has served. The image holds a client too:
//
//	web                serves on :8080 (PORT)
//	web get URL        prints what a URL answers, for a try from inside the cluster
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch {
	case len(args) == 0:
		return serve(ctx)
	case len(args) == 2 && args[0] == "get":
		return get(ctx, args[1])
	}
	return errors.New("usage: web [get URL]")
}

// app is the server's state.
type app struct {
	host     string
	settings string // folder of mounted settings
	secrets  string // folder of mounted secrets
	requests atomic.Int64
	leaving  atomic.Bool // told to end: no longer ready, still serving
}

func serve(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	a := &app{host: host, settings: env("SETTINGS_DIR", "/etc/web"), secrets: env("SECRETS_DIR", "/etc/web-secret")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", a.show)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	server := &http.Server{Addr: ":" + env("PORT", "8080"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Printf("web: %s serves on %s\n", host, server.Addr)

	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	a.leaving.Store(true)
	fmt.Printf("web: ends after %d requests\n", a.requests.Load())
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

func (a *app) show(w http.ResponseWriter, r *http.Request) {
	n := a.requests.Add(1)
	fmt.Fprintf(w, "%s\n\n", env("GREETING", "Hello"))
	fmt.Fprintf(w, "pod:      %s (%s)\n", a.host, env("POD_IP", "address unknown"))
	fmt.Fprintf(w, "node:     %s\n", env("NODE_NAME", "unknown"))
	fmt.Fprintf(w, "client:   %s\n", r.RemoteAddr)
	fmt.Fprintf(w, "requests: %d\n", n)
	fmt.Fprintf(w, "password: %s in the environment\n", hidden(os.Getenv("PASSWORD")))
	for _, dir := range []string{a.settings, a.secrets} {
		for _, line := range files(dir, dir == a.secrets) {
			fmt.Fprintln(w, line)
		}
	}
}

func (a *app) ready(w http.ResponseWriter, _ *http.Request) {
	if a.leaving.Load() {
		http.Error(w, "ends", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// files lists the files mounted at dir, read anew so that changed settings show at once.
func files(dir string, secret bool) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		return []string{err.Error()}
	}
	sort.Strings(paths)
	var out []string
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %v", p, err))
			continue
		}
		value := strings.TrimSpace(string(text))
		if secret {
			value = hidden(value)
		}
		out = append(out, fmt.Sprintf("%s: %s", p, value))
	}
	return out
}

func hidden(value string) string {
	if value == "" {
		return "none"
	}
	return fmt.Sprintf("%d characters", len(value))
}

func env(name, other string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return other
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}

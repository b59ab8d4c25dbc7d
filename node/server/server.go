package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/proxy"

	"github.com/troupe-run/troupe/messages"
)

// Config of a [Server]. One of Containers and NodeContainers is required.
type Config struct {
	// Containers is the container side of the one node that is served.
	Containers Containers
	// NodeContainers serves many nodes of one process instead: it finds the container side by the
	// node that was dialed; the listener then is one on messages.NodeStreamAll.
	NodeContainers func(node string) (Containers, bool)
	// Log receives what goes wrong after an answer has begun; nil discards.
	Log *slog.Logger
}

// Server is the HTTP surface of one node, or of many in one process.
type Server struct {
	cfg Config
	mux *http.ServeMux
}

// New returns the surface as a handler; [Server.Run] serves it.
func New(cfg Config) (*Server, error) {
	if (cfg.Containers == nil) == (cfg.NodeContainers == nil) {
		return nil, fmt.Errorf("node server: either one container side or a way to find it is required: %w", messages.ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	s.mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	for _, path := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
		s.mux.HandleFunc("/exec"+path, s.exec)
		s.mux.HandleFunc("/attach"+path, s.attach)
	}
	s.mux.HandleFunc("/portForward/{namespace}/{pod}", s.portForward)
	s.mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", s.portForward)
	s.mux.HandleFunc("GET /dial/{namespace}/{pod}/{port}", s.dial)
	s.mux.HandleFunc("GET /dial/{port}", s.dial)
	return s, nil
}

// Run serves l until ctx ends, then closes it with every request and returns.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("serve node: %w", err)
	}
	return nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// containers finds the container side that a request is for.
func (s *Server) containers(r *http.Request) (Containers, error) {
	if s.cfg.Containers != nil {
		return s.cfg.Containers, nil
	}
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if addr == nil {
		return nil, fmt.Errorf("find node: no address: %w", messages.ErrInvalid)
	}
	node, err := messages.ParseNodeStream(addr.String())
	if err != nil {
		return nil, err
	}
	c, ok := s.cfg.NodeContainers(node)
	if !ok {
		return nil, fmt.Errorf("find node %s: %w", node, messages.ErrNotFound)
	}
	return c, nil
}

func containerOf(r *http.Request) Container {
	return Container{Namespace: r.PathValue("namespace"), Pod: r.PathValue("pod"), Name: r.PathValue("container")}
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	opts := ExecOptions{Command: r.URL.Query()["command"], StreamOptions: streamOptions(r.URL.Query())}
	switch {
	case len(opts.Command) == 0:
		fail(w, fmt.Errorf("exec: a command is required: %w", messages.ErrInvalid))
		return
	case !opts.Stdin && !opts.Stdout && !opts.Stderr:
		fail(w, fmt.Errorf("exec: at least one of stdin, stdout, stderr is required: %w", messages.ErrInvalid))
		return
	}
	s.stream(w, r, func(c Containers) (Target, error) { return c.Exec(r.Context(), containerOf(r), opts) })
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	opts := streamOptions(r.URL.Query())
	if !opts.Stdin && !opts.Stdout && !opts.Stderr {
		fail(w, fmt.Errorf("attach: at least one of stdin, stdout, stderr is required: %w", messages.ErrInvalid))
		return
	}
	s.stream(w, r, func(c Containers) (Target, error) { return c.Attach(r.Context(), containerOf(r), opts) })
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	s.stream(w, r, func(c Containers) (Target, error) {
		return c.PortForward(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	})
}

// streamOptions reads a kubelet's parameter names and those of the API, so that the API server may
// pass on either.
func streamOptions(q url.Values) StreamOptions {
	set := func(names ...string) bool {
		for _, n := range names {
			if v, err := strconv.ParseBool(q.Get(n)); err == nil && v {
				return true
			}
		}
		return false
	}
	o := StreamOptions{Stdin: set("input", "stdin"), Stdout: set("output", "stdout"), Stderr: set("error", "stderr"), TTY: set("tty")}
	if o.TTY {
		o.Stderr = false // a terminal has one output
	}
	return o
}

// stream prepares a target and lets it serve the request.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, prepare func(Containers) (Target, error)) {
	c, err := s.containers(r)
	if err != nil {
		fail(w, err)
		return
	}
	t, err := prepare(c)
	switch {
	case err != nil:
		fail(w, err)
	case t.Handler != nil:
		t.Handler.ServeHTTP(w, r)
	default:
		p := proxy.NewUpgradeAwareHandler(t.URL, nil, false, true, responder{s.cfg.Log})
		p.ServeHTTP(w, r)
	}
}

// responder answers when the runtime's streaming server cannot be reached or refuses.
type responder struct{ log *slog.Logger }

func (e responder) Error(w http.ResponseWriter, r *http.Request, err error) {
	e.log.Warn("stream not proxied", "path", r.URL.Path, "err", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// fail answers with the code of an error's class.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, messages.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, messages.ErrInvalid):
		code = http.StatusBadRequest
	case errors.Is(err, messages.ErrUnavailable):
		code = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), code)
}

var (
	_ http.Handler         = (*Server)(nil)
	_ proxy.ErrorResponder = responder{}
)

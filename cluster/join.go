package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// One that joins asks the member that is there over HTTPS, at the address where that one is reached as a
// member later. The token proves to either side whom it has before it.
const (
	joinPath  = "/join"  // says a joining, and gets a welcome and, when all have come, an admission
	readyPath = "/ready" // says who has written down that it is a member
)

// joining is the question of one that would join.
type joining struct {
	joiner
	Settings joinSettings `json:"settings"`
}

// joinSettings must be the same at all members.
type joinSettings struct {
	Region      string `json:"region"`
	PodCIDR     string `json:"podCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
}

// welcome is what a member needs to have of the others.
type welcome struct {
	Member string            `json:"member"`
	Keys   map[string][]byte `json:"keys"`    // files of the authority
	Seal   []byte            `json:"sealing"` // the file of sealing keys
}

// admission says that all have come.
type admission struct {
	Peers []string `json:"peers"`
}

// JoinConfig says how a machine becomes a member of a control plane elsewhere.
type JoinConfig struct {
	// DataDir is the folder that keeps state and keys. Required.
	DataDir string
	// Addr is the host:port of the member that is there, Token what troupe members grow has printed.
	Addr, Token string
	// Name and MemberAddr are what this member is called, and the host:port where the others reach it.
	Name, MemberAddr string
	// Region, PodCIDR and ServiceCIDR must be those of the others.
	Region, PodCIDR, ServiceCIDR string
	// Step is told how far it is.
	Step func(name, detail string)
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// joinPause is how long to wait before the member that is there is asked again.
const joinPause = 500 * time.Millisecond

// Join fetches what a member needs into the data folder, and waits until all members have come. It can be
// done again whenever it was cut short; on the folder of a member, or of one that is alone since, it does
// nothing.
func Join(ctx context.Context, cfg JoinConfig) error {
	m, err := readMode(cfg.DataDir)
	if err != nil || m.Kind == modeMembers {
		return err
	}
	hash, secret, err := parseToken(cfg.Token)
	if err != nil {
		return err
	}
	if m.Kind != "" {
		return ofCluster(cfg.DataDir, hash)
	}
	c := joinClient{cfg: cfg, secret: secret, http: &http.Client{Transport: &http.Transport{TLSClientConfig: auth.PinnedTLS(hash), DisableKeepAlives: true}}}
	said := ""
	for {
		err := c.join(ctx)
		if err == nil || errors.Is(err, messages.ErrInvalid) || ctx.Err() != nil {
			return err
		}
		if why := err.Error(); why != said {
			said = why
			cfg.Log.Warn("cannot join yet", "member", cfg.Addr, "err", err)
		}
		if !pause(ctx, joinPause) {
			return ctx.Err()
		}
	}
}

// ofCluster says that the data folder is of the cluster whose authority has the hash.
func ofCluster(dataDir, caHash string) error {
	a, err := auth.Open(auth.Config{Dir: keysDir(dataDir)})
	if err == nil && a.CAHash() != caHash {
		err = fmt.Errorf("the data folder has a state of its own and cannot join another: %w", messages.ErrInvalid)
	}
	return err
}

type joinClient struct {
	cfg    JoinConfig
	secret string
	http   *http.Client
}

func (c *joinClient) join(ctx context.Context) error {
	body, err := c.post(ctx, joinPath, joining{joiner{Name: c.cfg.Name, Addr: c.cfg.MemberAddr}, joinSettings{c.cfg.Region, c.cfg.PodCIDR, c.cfg.ServiceCIDR}})
	if err != nil {
		return err
	}
	defer body.Body.Close()
	in := json.NewDecoder(body.Body)
	var w welcome
	if err := in.Decode(&w); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := w.write(c.cfg.DataDir); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	c.cfg.Step("keys of the control plane", "from "+w.Member+"; waiting for the others")
	var a admission
	if err := in.Decode(&a); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m := mode{Kind: modeMembers, Member: c.cfg.Name, Addr: c.cfg.MemberAddr, Peers: a.Peers, Move: moveWait, From: c.cfg.Addr, Token: c.cfg.Token}
	if err := m.write(c.cfg.DataDir); err != nil {
		return err
	}
	c.cfg.Step("joined", strings.Join(a.Peers, ", "))
	return nil
}

// ready tells the member that is there, until it knows, that this one is a member.
func (m mode) ready(ctx context.Context) {
	hash, secret, err := parseToken(m.Token)
	if err != nil {
		return // a folder that was made by hand
	}
	c := joinClient{cfg: JoinConfig{Addr: m.From}, secret: secret, http: &http.Client{Timeout: 5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: auth.PinnedTLS(hash), DisableKeepAlives: true}}}
	for {
		answer, err := c.post(ctx, readyPath, joiner{Name: m.Member})
		if err == nil {
			answer.Body.Close()
			return
		}
		if !pause(ctx, joinPause) {
			return
		}
	}
}

func (c *joinClient) post(ctx context.Context, path string, question any) (*http.Response, error) {
	data, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.cfg.Addr+path, strings.NewReader(string(data)))
	if err != nil {
		return nil, fmt.Errorf("join %s: %w: %w", c.cfg.Addr, err, messages.ErrInvalid)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", c.cfg.Addr, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	var text string
	if err := json.NewDecoder(answer.Body).Decode(&text); err != nil {
		text = answer.Status
	}
	class := messages.ErrUnavailable
	if answer.StatusCode < http.StatusInternalServerError {
		class = messages.ErrInvalid
	}
	return nil, fmt.Errorf("join %s: %s: %w", c.cfg.Addr, text, class)
}

// write puts what a member must have into its data folder.
func (w *welcome) write(dataDir string) error {
	keys, nats := keysDir(dataDir), below(dataDir, "nats")
	if err := errors.Join(os.MkdirAll(keys, 0o700), os.MkdirAll(nats, 0o700)); err != nil {
		return err
	}
	for name, content := range w.Keys {
		if name != filepath.Base(name) {
			return fmt.Errorf("%q names no file: %w", name, messages.ErrInvalid)
		}
		if err := auth.WriteSecret(filepath.Join(keys, name), content); err != nil {
			return err
		}
	}
	return auth.WriteSecret(filepath.Join(nats, sealingFile), w.Seal)
}

// sealingFile holds the sealing keys, beside the streams.
const sealingFile = "sealing.key"

// readKeys collects what write puts down.
func readKeys(dataDir string) (w welcome, err error) {
	w.Keys = map[string][]byte{}
	entries, err := os.ReadDir(keysDir(dataDir))
	if err != nil {
		return w, fmt.Errorf("read keys: %w", err)
	}
	for _, e := range entries {
		if w.Keys[e.Name()], err = os.ReadFile(filepath.Join(keysDir(dataDir), e.Name())); err != nil {
			return w, fmt.Errorf("read keys: %w", err)
		}
	}
	if w.Seal, err = os.ReadFile(filepath.Join(below(dataDir, "nats"), sealingFile)); err != nil {
		return w, fmt.Errorf("read keys: %w", err)
	}
	return w, nil
}

// joinServer lets others join a control plane that is alone.
type joinServer struct {
	c    *Cluster
	http http.Server
	l    net.Listener
}

// serveJoins listens for those that join, if any shall.
func (c *Cluster) serveJoins(addr string) error {
	c.growing.mu.Lock()
	defer c.growing.mu.Unlock()
	if s := c.growing.server; s != nil && s.l.Addr().String() == addr {
		return nil
	} else if s != nil {
		c.growing.server = nil
		_ = s.http.Close() // who joins comes again
	}
	config, err := c.authority.JoinTLS()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for members: %w", err)
	}
	s := &joinServer{c: c, l: l}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+joinPath, s.answer(s.join))
	mux.HandleFunc("POST "+readyPath, s.answer(s.ready))
	s.http = http.Server{Handler: mux, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug)}
	c.growing.server = s
	c.serving.Go(func() {
		if err := s.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			c.cfg.Log.Warn("members cannot join", "addr", addr, "err", err)
		}
	})
	return nil
}

func (c *Cluster) stopJoins() error {
	c.growing.mu.Lock()
	defer c.growing.mu.Unlock()
	if c.growing.server == nil {
		return nil
	}
	err := c.growing.server.http.Close()
	c.growing.server = nil
	return err
}

// maxJoin bounds the question of one that joins, in bytes.
const maxJoin = 64 << 10

// answer asks for the secret and words errors.
func (s *joinServer) answer(do func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxJoin)
		secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		code, text := http.StatusOK, ""
		if g := s.c.growth(); g == nil || !g.knows(secret, s.c.cfg.Clock.Now()) {
			code, text = http.StatusForbidden, "the token is not good any more; troupe members grow prints another"
		} else if err := do(w, r); err != nil {
			code, text = http.StatusInternalServerError, err.Error()
			if errors.Is(err, messages.ErrInvalid) {
				code = http.StatusConflict
			}
		}
		if text != "" {
			s.c.cfg.Log.Warn("no member was let in", "from", r.RemoteAddr, "why", text)
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(text) // who joins comes again
		}
	}
}

func (s *joinServer) join(w http.ResponseWriter, r *http.Request) error {
	var j joining
	if err := json.NewDecoder(r.Body).Decode(&j); err != nil {
		return fmt.Errorf("read who joins: %w: %w", err, messages.ErrInvalid)
	}
	c := s.c
	if want := (joinSettings{c.cfg.Region, c.cfg.PodCIDR.String(), c.cfg.ServiceCIDR.String()}); j.Settings != want {
		return fmt.Errorf("all members need the same region, --pod-cidr and --service-cidr: %v here, %v there: %w", want, j.Settings, messages.ErrInvalid)
	}
	if err := c.regrow(func(g *growth) (*growth, error) { return g.admit(c.cfg.Member, j.joiner) }); err != nil {
		return err
	}
	keys, err := readKeys(c.cfg.DataDir)
	if err != nil {
		return err
	}
	keys.Member = c.cfg.Member
	c.cfg.Step("member "+j.Name+" joins", j.Addr)
	out, control := json.NewEncoder(w), http.NewResponseController(w)
	if err := errors.Join(out.Encode(keys), control.Flush()); err != nil {
		return nil // it has gone, and comes again
	}
	for {
		g, changed := c.growthNow()
		if g == nil {
			return nil
		}
		if g.complete() {
			_ = out.Encode(admission{g.peers(j.Name)}) // it comes again
			return nil
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil
		}
	}
}

func (s *joinServer) ready(_ http.ResponseWriter, r *http.Request) error {
	var j joiner
	if err := json.NewDecoder(r.Body).Decode(&j); err != nil {
		return fmt.Errorf("read who is ready: %w: %w", err, messages.ErrInvalid)
	}
	return s.c.regrow(func(g *growth) (*growth, error) { return g.ready(j.Name) })
}

// pause waits; false says that ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

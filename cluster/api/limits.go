package api

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
)

const (
	// defaultMaxWatches is how many watches one user may have; a busy operator has hundreds.
	defaultMaxWatches = 10_000
	// watchAgain is how many seconds a user with too many is asked to wait.
	watchAgain = 30
	// maxStreams is how many requests at a time one HTTP/2 connection carries, as many as clients
	// expect at first; those that want more open another.
	maxStreams = 100
	// frame is what nearly all objects fit in.
	frame = 99 << 10
)

// limits keeps one client from taking what belongs to all.
type limits struct {
	next    http.Handler
	s       *Server
	mu      sync.Mutex
	watches map[string]int // by user
}

func (s *Server) limit(next http.Handler) http.Handler {
	return &limits{next: next, s: s, watches: make(map[string]int)}
}

func (l *limits) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok || info.Subresource != "proxy" { // what is passed on is not unpacked here
		guardBody(r)
	}
	if !ok || !info.IsResourceRequest || info.Verb != "watch" {
		l.next.ServeHTTP(w, r)
		return
	}
	name := ""
	if u, ok := request.UserFrom(r.Context()); ok {
		name = u.GetName()
	}
	if !l.begin(name) {
		gv := schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
		err := apierrors.NewTooManyRequests(fmt.Sprintf("user %q has %d watches already", name, l.s.cfg.MaxWatches), watchAgain)
		responsewriters.ErrorNegotiated(err, l.s.codecs.factory, gv, w, r)
		return
	}
	defer l.end(name)
	l.next.ServeHTTP(w, r)
}

func (l *limits) begin(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watches[user] >= l.s.cfg.MaxWatches {
		return false
	}
	l.watches[user]++
	return true
}

func (l *limits) end(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watches[user]--; l.watches[user] == 0 {
		delete(l.watches, user)
	}
}

// bound sets what one connection may cost.
func bound(srv *http.Server) {
	srv.MaxHeaderBytes = 1 << 20
	srv.ReadHeaderTimeout = 32 * time.Second
	srv.IdleTimeout = 90 * time.Second
	srv.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxStreams,
		MaxReadFrameSize:              frame,
		MaxReceiveBufferPerStream:     256 << 10,
		MaxReceiveBufferPerConnection: 4 << 20,
		// A peer that is gone without a word is found out and its streams end.
		SendPingTimeout: 30 * time.Second,
		PingTimeout:     15 * time.Second,
	}
}

package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/troupe-run/troupe/messages"
)

// dial joins the request's connection, after an upgrade to "tcp", with one to a port of a pod or of
// the node. What comes over it is not looked at.
func (s *Server) dial(w http.ResponseWriter, r *http.Request) {
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		fail(w, fmt.Errorf("dial: %q is not a port number: %w", r.PathValue("port"), messages.ErrInvalid))
		return
	}
	if r.Header.Get("Upgrade") != "tcp" {
		fail(w, fmt.Errorf("dial: an upgrade to tcp is required: %w", messages.ErrInvalid))
		return
	}
	c, err := s.containers(r)
	if err != nil {
		fail(w, err)
		return
	}
	there, err := c.Dial(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), uint16(port))
	if err != nil {
		fail(w, err)
		return
	}
	defer there.Close()
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, fmt.Errorf("dial: %w", err))
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"); err != nil {
		return
	}
	join(r.Context(), here, buffered, there)
}

// join copies both ways until either side ends or ctx does. HTTP, whatever it is upgraded to, has no
// use for a connection of which one half is closed.
func join(ctx context.Context, here net.Conn, from io.Reader, there net.Conn) {
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // whoever is left finds out by the end
		ended <- struct{}{}
	}
	go pass(there, from)
	go pass(here, there)
	left := 2
	select {
	case <-ended:
		left--
	case <-ctx.Done():
	}
	_, _ = here.Close(), there.Close()
	for range left {
		<-ended
	}
}

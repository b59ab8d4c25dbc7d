package bus

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/troupe-run/troupe/messages"
)

// Role says what a client of the bus may do.
type Role int

const (
	// RoleObserver may read the change subjects and the change stream, and nothing else.
	RoleObserver Role = iota + 1
	// RoleNode may use the subjects of its own node and read what is broadcast to all proxies.
	RoleNode
	// RoleControl may use every subject: control planes and administrators.
	RoleControl
	// roleChanges is the store's own connection to the observers' account.
	roleChanges
)

// Identity is who a client turned out to be. Name is the node's name for RoleNode.
type Identity struct {
	Role Role
	Name string
}

// User is a client with a static credential, given as user name and password or as a token.
type User struct {
	Name     string
	Secret   string
	Identity Identity
}

// Login is what a client presented.
type Login struct {
	User, Password, Token string
	// TLS is nil on connections without it. Certificates in it are verified only as far as the
	// listener's tls.Config says.
	TLS *tls.ConnectionState
}

// The inbox prefixes: replies to one client must not be readable by another.
const (
	controlUser  = "control"
	changesUser  = "changes"
	nodeUser     = "node:"
	controlInbox = "_CONTROL"
)

// NodeInbox is the reply prefix a node's connection must use (nats.CustomInboxPrefix).
func NodeInbox(node string) string { return "_INBOX." + messages.EscapeToken(node) }

// ObserverInbox is the reply prefix an observer's connection must use.
func ObserverInbox(user string) string { return "_OBSERVER." + messages.EscapeToken(user) }

// authenticator decides inside the server's accept path; nothing is looked up over the network.
type authenticator struct{ bus *Bus }

// Check identifies a client and registers its permissions; false refuses the connection.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	opts := c.GetOpts()
	login := Login{User: opts.Username, Password: opts.Password, Token: opts.Token, TLS: c.GetTLSConnectionState()}
	id, ok := a.identify(login)
	if !ok {
		a.bus.cfg.Log.Warn("bus login refused", "user", login.User, "addr", c.RemoteAddress().String())
		return false
	}
	user := &server.User{Username: id.Name, Permissions: permissions(a.bus.cfg.Region, id)}
	if id.Role == RoleObserver || id.Role == roleChanges {
		account, err := a.bus.srv.Load().LookupAccount(observersAccount)
		if err != nil {
			return false
		}
		user.Account = account
	}
	c.RegisterUser(user)
	return true
}

func (a *authenticator) identify(l Login) (Identity, bool) {
	if equal(l.Password, a.bus.secret) {
		if l.User == controlUser {
			return Identity{RoleControl, controlUser}, true
		}
		if l.User == changesUser {
			return Identity{roleChanges, changesUser}, true
		}
		if node, ok := strings.CutPrefix(l.User, nodeUser); ok && node != "" {
			return Identity{RoleNode, node}, true
		}
	}
	for _, u := range a.bus.cfg.Users {
		if l.User == u.Name && equal(l.Password, u.Secret) || l.Token != "" && equal(l.Token, u.Secret) {
			return u.Identity, true
		}
	}
	if id, ok := fromCertificate(l.TLS); ok {
		return id, true
	}
	if a.bus.cfg.Auth == nil {
		return Identity{}, false
	}
	id, err := a.bus.cfg.Auth(l)
	return id, err == nil
}

// fromCertificate reads Kubernetes' names: O system:nodes with CN system:node:<name>, and O
// system:masters. Only chains the listener verified count.
func fromCertificate(state *tls.ConnectionState) (Identity, bool) {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return Identity{}, false
	}
	subject := state.PeerCertificates[0]
	if !slices.Contains(subject.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return Identity{}, false
	}
	name := subject.Subject.CommonName
	switch orgs := subject.Subject.Organization; {
	case slices.Contains(orgs, "system:masters"):
		return Identity{RoleControl, name}, true
	case slices.Contains(orgs, "system:nodes"):
		node, ok := strings.CutPrefix(name, "system:node:")
		return Identity{RoleNode, node}, ok && node != ""
	}
	return Identity{}, false
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// permissions returns what a role may do; nil means everything.
func permissions(region string, id Identity) *server.Permissions {
	allow := func(pub, sub []string) *server.Permissions {
		return &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: pub},
			Subscribe: &server.SubjectPermission{Allow: sub},
		}
	}
	switch id.Role {
	case RoleControl, roleChanges:
		return nil
	case RoleNode:
		own := messages.NodeAll(region, id.Name)
		p := allow([]string{own, messages.ProxySnapshot(region)},
			[]string{own, messages.ProxyDeltas(region), NodeInbox(id.Name) + ".>"})
		// A node answers requests on inboxes it cannot name beforehand.
		p.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: 2 * time.Minute}
		return p
	case RoleObserver:
		s := messages.ChangeStream
		return allow([]string{
			"$JS.API.INFO", "$JS.API.STREAM.INFO." + s, "$JS.API.CONSUMER.CREATE." + s + ".>",
			"$JS.API.CONSUMER.INFO." + s + ".>", "$JS.API.CONSUMER.DELETE." + s + ".>",
			"$JS.API.CONSUMER.MSG.NEXT." + s + ".>", "$JS.ACK." + s + ".>", "$JS.FC." + s + ".>",
		}, []string{messages.ChangePrefix(region) + ">", ObserverInbox(id.Name) + ".>"})
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Deny: []string{">"}},
		Subscribe: &server.SubjectPermission{Deny: []string{">"}},
	}
}

var _ server.Authentication = (*authenticator)(nil)

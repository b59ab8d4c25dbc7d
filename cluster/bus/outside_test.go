package bus_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/troupe-run/troupe/cluster/bus"
)

// natsServer runs a server with a configuration as its users write it.
func natsServer(t *testing.T, conf string, change func(*server.Options)) string {
	t.Helper()
	opts := &server.Options{}
	if err := opts.ProcessConfigString(conf); err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	if change != nil {
		change(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not come up")
	}
	return strings.TrimPrefix(strings.TrimPrefix(s.ClientURL(), "nats://"), "tls://")
}

const jetStream = "jetstream: {max_memory_store: 64MB, max_file_store: 1GB}\nmax_payload: 4MB\n"

func outside(t *testing.T, o bus.Outside) (*bus.Bus, error) {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Config{Outside: &o, DataDir: t.TempDir(), Log: discard()})
	if err == nil {
		t.Cleanup(func() {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	return b, err
}

func TestOutsideRefusesWhatDoesNotServe(t *testing.T) {
	t.Parallel()
	user := func(permissions string) string {
		return `authorization { users: [ {user: troupe, password: secret, permissions: {` + permissions + `}} ] }`
	}
	for name, c := range map[string]struct {
		conf string
		url  string
		want []string // none means that it serves
	}{
		"all is well":       {jetStream, "nats://%s", nil},
		"password":          {jetStream + user(`publish: ">", subscribe: ">"`), "nats://troupe:secret@%s", nil},
		"wrong password":    {jetStream + user(`publish: ">"`), "nats://troupe:guess@%s", []string{"troupe:xxxxx@", "authorization violation"}},
		"no JetStream":      {"max_payload: 4MB", "nats://%s", []string{"JetStream is not enabled", "jetstream section"}},
		"small messages":    {strings.Replace(jetStream, "max_payload: 4MB", "max_payload: 1MB", 1), "nats://%s", []string{"max_payload: 4MB"}},
		"not this account":  {jetStream + `accounts: {A: {users: [{user: a, password: b}]}, B: {jetstream: enabled}}`, "nats://a:b@%s", []string{"not enabled for this account"}},
		"too few streams":   {jetStream + `accounts: {A: {users: [{user: a, password: b}], jetstream: {max_streams: 2, max_file: 1GB, max_mem: 1MB}}}`, "nats://a:b@%s", []string{"may have 2 streams"}},
		"nothing in memory": {jetStream + `accounts: {A: {users: [{user: a, password: b}], jetstream: {max_mem: 0, max_file: 1GB}}}`, "nats://a:b@%s", []string{"nothing in memory"}},
		"may not create": {jetStream + user(`publish: {deny: ["$JS.API.STREAM.CREATE.>"]}, subscribe: ">"`), "nats://troupe:secret@%s",
			[]string{"no permission for Publish", "$JS.API.STREAM.CREATE"}},
		"may not write": {jetStream + user(`publish: {deny: ["$KV.>"]}, subscribe: {deny: "troupe.>"}`), "nats://troupe:secret@%s",
			[]string{"$KV.state.preflight", "Subscription to"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := natsServer(t, c.conf, nil)
			b, err := outside(t, bus.Outside{URL: fmt.Sprintf(c.url, addr)})
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if b.Replicas() != 1 || b.Healthy() != nil || strings.Contains(b.ClientURL(), "secret") {
					t.Errorf("%d replicas, %v, %s", b.Replicas(), b.Healthy(), b.ClientURL())
				}
				return
			}
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range c.want {
				if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "guess") {
				t.Errorf("shows the password: %v", err)
			}
		})
	}
}

func TestOutsideSettings(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]bus.Outside{
		"is not like":     {URL: "localhost"},
		"go together":     {URL: "nats://x", Cert: "/dev/null"},
		"no such file":    {URL: "nats://x", Creds: "/nowhere"},
		"NATS keeps 1, 3": {URL: "nats://x", Replicas: 2},
	} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", o, err)
		}
	}
	good := bus.Outside{URL: "nats://u:p@a:1, tls://b:2"}
	if err := good.Check(); err != nil || good.Name() != "nats://u:xxxxx@a:1,tls://b:2" {
		t.Errorf("%v, %s", err, good.Name())
	}
}

// TestOutsideByCertificate connects by TLS, with a client certificate, as files.
func TestOutsideByCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	addr := natsServer(t, jetStream, func(o *server.Options) {
		o.TLS, o.TLSVerify, o.TLSTimeout = true, true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.issue("nats", "", x509.ExtKeyUsageServerAuth)},
			ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	})
	client := ca.issue("troupe", "", x509.ExtKeyUsageClientAuth)
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o := bus.Outside{URL: "tls://" + addr, CA: file("ca.crt", "CERTIFICATE", ca.cert.Raw)}
	if _, err := outside(t, o); err == nil {
		t.Error("let in without a certificate")
	}
	o.Cert, o.Key = file("tls.crt", "CERTIFICATE", client.Certificate[0]), file("tls.key", "PRIVATE KEY", key)
	if _, err := outside(t, o); err != nil {
		t.Error(err)
	}
}

// TestOutsideByCredentials connects with a credentials file to a server in operator mode.
func TestOutsideByCredentials(t *testing.T) {
	t.Parallel()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		if err != nil {
			t.Fatal(err)
		}
		public, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	encode := func(token string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	operator, operatorID := pair(nkeys.CreateOperator())
	account, accountID := pair(nkeys.CreateAccount())
	system, systemID := pair(nkeys.CreateAccount())
	_ = system
	user, userID := pair(nkeys.CreateUser())
	claims := jwt.NewOperatorClaims(operatorID)
	claims.SystemAccount = systemID
	root, err := jwt.DecodeOperatorClaims(encode(claims.Encode(operator)))
	if err != nil {
		t.Fatal(err)
	}
	accountClaims := jwt.NewAccountClaims(accountID)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	resolver := &server.MemAccResolver{}
	for id, token := range map[string]string{accountID: encode(accountClaims.Encode(operator)), systemID: encode(jwt.NewAccountClaims(systemID).Encode(operator))} {
		if err := resolver.Store(id, token); err != nil {
			t.Fatal(err)
		}
	}
	addr := natsServer(t, jetStream, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{root}, resolver, systemID
	})
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(userID).Encode(account)), seed)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "troupe.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := outside(t, bus.Outside{URL: "nats://" + addr}); err == nil {
		t.Error("let in without credentials")
	}
	b, err := outside(t, bus.Outside{URL: "nats://" + addr, Creds: file})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}}); err != nil {
		t.Error(err)
	}
}

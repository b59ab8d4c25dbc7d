package auth

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

const (
	// answerWithin is how long new issuers may take to answer before they are used all the same.
	answerWithin = time.Minute
	// lookForAnswer is how often they are asked meanwhile.
	lookForAnswer = time.Second
)

// issuers know the tokens of the issuers of one AuthenticationConfiguration. The zero value knows
// none.
type issuers struct {
	tokens authenticator.Token
	all    []oidc.AuthenticatorTokenWithHealthCheck
	stop   context.CancelFunc
}

// AuthenticateToken implements authenticator.Token.
func (i *issuers) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if i.tokens == nil {
		return nil, false, nil
	}
	return i.tokens.AuthenticateToken(ctx, token)
}

// end stops the fetching of keys.
func (i *issuers) end() {
	if i.stop != nil {
		i.stop()
	}
}

// openIssuers starts to fetch the keys of the issuers; ctx ends that.
func openIssuers(ctx context.Context, compiler authenticationcel.Compiler, cfg *apiserver.AuthenticationConfiguration, own []string) (*issuers, error) {
	ctx, stop := context.WithCancel(ctx)
	out := &issuers{stop: stop}
	var tokens []authenticator.Token
	for _, jwt := range cfg.JWT {
		opts := oidc.Options{JWTAuthenticator: jwt, Compiler: compiler, DisallowedIssuers: own,
			SupportedSigningAlgs: oidc.AllValidSigningAlgorithms()}
		if ca := jwt.Issuer.CertificateAuthority; ca != "" {
			opts.CAContentProvider = pemBundle(ca)
		}
		issuer, err := oidc.New(ctx, opts)
		if err != nil {
			stop()
			return nil, fmt.Errorf("issuer %s: %w", jwt.Issuer.URL, err)
		}
		out.all, tokens = append(out.all, issuer), append(tokens, issuer)
	}
	if len(tokens) > 0 {
		out.tokens = tokenunion.New(tokens...)
	}
	return out, nil
}

// ready returns why some issuer's keys are not here yet.
func (i *issuers) ready() error {
	for _, issuer := range i.all {
		if err := issuer.HealthCheck(); err != nil {
			return err
		}
	}
	return nil
}

// pemBundle is a bundle of certificates that never changes.
type pemBundle string

func (b pemBundle) CurrentCABundleContent() []byte { return []byte(b) }

// read reads the file, if it has changed, and takes over what it says of strangers.
func (a *Authenticator) read() (*apiserver.AuthenticationConfiguration, authenticationcel.Compiler, error) {
	content, err := os.ReadFile(a.cfg.File)
	if err != nil {
		return nil, nil, fmt.Errorf("read authentication configuration: %w", err)
	}
	if a.content != nil && bytes.Equal(content, a.content) {
		return nil, nil, nil
	}
	a.content = content // one that is wrong is not looked at twice
	compiler := authenticationcel.NewDefaultCompiler()
	cfg, err := parseAuthentication(content, compiler, a.own())
	if err != nil {
		return nil, nil, fmt.Errorf("authentication configuration %s: %w", a.cfg.File, err)
	}
	if cfg.Anonymous != nil {
		a.strangers.Store(cfg.Anonymous)
	} else {
		a.strangers.Store(&apiserver.AnonymousAuthConfig{Enabled: true})
	}
	return cfg, compiler, nil
}

// own are the issuers that the file may not name: service accounts' tokens are not its affair.
func (a *Authenticator) own() []string { return []string{a.cfg.Tokens.Issuer()} }

func parseAuthentication(content []byte, compiler authenticationcel.Compiler, own []string) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	obj, err := runtime.Decode(codecs.UniversalDecoder(), content)
	if err != nil {
		return nil, err
	}
	cfg, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %T, want an AuthenticationConfiguration", obj)
	}
	return cfg, validation.ValidateAuthenticationConfiguration(compiler, cfg, own).ToAggregate()
}

// follow opens the issuers of the file and opens them anew each time it changes, until ctx ends.
func (a *Authenticator) follow(ctx context.Context) {
	a.content = nil // what New has read is not open yet
	tick := a.cfg.Clock.NewTicker(lookAgain)
	defer tick.Stop()
	defer func() { a.issuers.Load().end() }()
	for {
		replaced, err := a.reopen(ctx)
		if err != nil && ctx.Err() == nil {
			a.cfg.Log.Error("authentication configuration not taken over, the one before stays", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C():
		}
		replaced.end() // only now, for requests that they were looking at
		if ctx.Err() != nil {
			return
		}
	}
}

// reopen replaces the issuers if the file has changed, and returns those that were replaced. They
// serve until the new ones answer.
func (a *Authenticator) reopen(ctx context.Context) (replaced *issuers, err error) {
	none := &issuers{}
	cfg, compiler, err := a.read()
	if err != nil || cfg == nil {
		return none, err
	}
	next, err := openIssuers(ctx, compiler, cfg, a.own())
	if err != nil {
		return none, err
	}
	deadline := a.cfg.Clock.Now().Add(answerWithin)
	for next.ready() != nil && a.issuers.Load().tokens != nil && a.cfg.Clock.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			next.end()
			return none, ctx.Err()
		case <-a.cfg.Clock.After(lookForAnswer):
		}
	}
	if err := next.ready(); err != nil {
		a.cfg.Log.Warn("an issuer of tokens has not answered yet", "err", err)
	}
	return a.issuers.Swap(next), nil
}

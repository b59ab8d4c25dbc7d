package auth

import "sync"

// FrontProxyName is what the server calls itself when it passes requests on to aggregated APIs.
const FrontProxyName = "front-proxy-client"

// FrontProxy proves to aggregated APIs that a request was passed on by the server, so that they
// believe the headers that say whose it is. It has an authority of its own: a certificate of the
// cluster's proves nothing to them, whatever name somebody has got it for.
type FrontProxy struct {
	root *Authority

	mu        sync.Mutex
	crt, key  []byte
	leafUntil int64 // Unix time from when on the certificate is made anew
}

// FrontProxy reads the authority for passed-on requests from the folder, or makes it there.
func (a *Authority) FrontProxy() (*FrontProxy, error) { return a.front() }

func (a *Authority) openFrontProxy() (*FrontProxy, error) {
	p := &FrontProxy{root: &Authority{dir: a.dir, clock: a.clock}}
	if err := p.root.openRoot("front-proxy-ca", "troupe-front-proxy"); err != nil {
		return nil, err
	}
	return p, p.renew()
}

// CAPEM is the certificate that aggregated APIs pin.
func (p *FrontProxy) CAPEM() []byte { return p.root.CAPEM() }

// Client returns the certificate and key to present, in PEM; they are made anew long before they end.
func (p *FrontProxy) Client() (crt, key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.root.clock.Now().Unix() > p.leafUntil {
		_ = p.renewLocked() // the old one is still good for a while
	}
	return p.crt, p.key
}

func (p *FrontProxy) renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.renewLocked()
}

func (p *FrontProxy) renewLocked() error {
	leaf, err := p.root.Client(FrontProxyName)
	if err != nil {
		return err
	}
	crt, key, err := EncodePair(leaf)
	if err != nil {
		return err
	}
	p.crt, p.key, p.leafUntil = crt, key, leaf.Leaf.NotAfter.Add(-renewBefore).Unix()
	return nil
}

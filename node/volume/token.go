package volume

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// defaultLifetime of a token whose manifest says none.
	defaultLifetime = time.Hour
	// longestUse is the age at which even a long-lived token is renewed.
	longestUse = 24 * time.Hour
)

// token is one that was handed out, and when to ask for the next.
type token struct {
	value string
	renew time.Time
}

// token returns the service account token of one file. It is asked for once and renewed when four
// fifths of its life are over, so that a control plane that is away for a while does no harm.
func (m *Manager) token(ctx context.Context, pod *corev1.Pod, volume string, src *corev1.ServiceAccountTokenProjection) (string, error) {
	key := volume + "/" + src.Path
	now := m.cfg.Clock.Now()
	m.mu.Lock()
	have, ok := m.tokens[pod.UID][key]
	m.mu.Unlock()
	if ok && now.Before(have.renew) {
		return have.value, nil
	}
	lifetime := defaultLifetime
	if src.ExpirationSeconds != nil {
		lifetime = time.Duration(*src.ExpirationSeconds) * time.Second
	}
	value, expires, err := m.cfg.Tokens.Token(ctx, pod, src.Audience, lifetime)
	if err != nil {
		return "", err
	}
	use := min(expires.Sub(now)*4/5, longestUse)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens[pod.UID] == nil {
		m.tokens[pod.UID] = map[string]token{}
	}
	m.tokens[pod.UID][key] = token{value: value, renew: now.Add(use)}
	return value, nil
}

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/troupe-run/troupe/cluster/auth"
)

// WriteObserver makes a folder with what any NATS client needs to read changes as user: ca.crt,
// tls.crt and tls.key. The authority is that of dataDir.
func WriteObserver(dataDir, user, dir string) error {
	a, err := auth.Open(auth.Config{Dir: keysDir(dataDir)})
	if err != nil {
		return err
	}
	crt, err := a.Client(user, observersGroup)
	if err != nil {
		return err
	}
	certPEM, keyPEM, err := auth.EncodePair(crt)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write credentials of %s: %w", user, err)
	}
	var errs []error
	for name, content := range map[string][]byte{"ca.crt": a.CAPEM(), "tls.crt": certPEM, "tls.key": keyPEM} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write credentials of %s: %w", user, err)
	}
	return nil
}

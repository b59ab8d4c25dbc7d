package api

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/natefinch/lumberjack.v2"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	auditlog "k8s.io/apiserver/plugin/pkg/audit/log"
)

// Audit says what is written down of requests, and where.
type Audit struct {
	// PolicyFile holds an audit.k8s.io/v1 Policy. Empty means that nothing is written.
	PolicyFile string
	// LogPath is the file that gets one line of JSON for each event; "-" is standard output. Empty
	// means that nothing is written.
	LogPath string
	// MaxSize is how many megabytes a file may have before the next is begun; 0 means no limit.
	MaxSize int
	// MaxAge is how many days, and MaxBackups how many, older files are kept; 0 means all.
	MaxAge, MaxBackups int
}

// Check reports everything that is wrong, each in one line.
func (a Audit) Check() error {
	var errs []error
	for name, n := range map[string]int{"size": a.MaxSize, "age": a.MaxAge, "number of backups": a.MaxBackups} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("audit log: the largest %s is %d; it cannot be negative", name, n))
		}
	}
	if a.LogPath != "" && a.PolicyFile == "" {
		errs = append(errs, errors.New("audit log: without a policy file nothing would be written"))
	}
	if a.PolicyFile != "" {
		_, err := a.policy()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a Audit) policy() (*auditinternal.Policy, error) {
	data, err := os.ReadFile(a.PolicyFile)
	if err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	p, err := policy.LoadPolicyFromBytes(data)
	if err != nil {
		// The decoder quotes the file, lines and all.
		return nil, fmt.Errorf("audit policy %s: %s", a.PolicyFile, strings.Join(strings.Fields(err.Error()), " ")) //nolint:errorlint // one line
	}
	return p, nil
}

// auditing is an open audit log.
type auditing struct {
	audit.Backend
	rules audit.PolicyRuleEvaluator
	out   io.Closer
}

// open returns nil when nothing is to be written.
func (a Audit) open() (*auditing, error) {
	if a.PolicyFile == "" || a.LogPath == "" {
		return nil, nil
	}
	p, err := a.policy()
	if err != nil {
		return nil, err
	}
	out, err := a.writer()
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	closer, ok := out.(io.Closer)
	if !ok {
		closer = io.NopCloser(nil)
	}
	return &auditing{auditlog.NewBackend(out, auditlog.FormatJson, auditv1.SchemeGroupVersion), policy.NewPolicyRuleEvaluator(p), closer}, nil
}

func (a Audit) writer() (io.Writer, error) {
	if a.LogPath == "-" {
		return struct{ io.Writer }{os.Stdout}, nil
	}
	if err := os.MkdirAll(filepath.Dir(a.LogPath), 0o700); err != nil {
		return nil, err
	}
	// Whoever reads the log sees what was sent, Secrets too if the policy asks for bodies.
	f, err := os.OpenFile(a.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil || a.MaxSize == 0 {
		return f, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: a.LogPath, MaxSize: a.MaxSize, MaxAge: a.MaxAge, MaxBackups: a.MaxBackups}, nil
}

// close writes what is left.
func (a *auditing) close() error {
	a.Shutdown()
	return a.out.Close()
}

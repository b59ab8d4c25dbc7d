package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var schemes = sets.New(corev1.URISchemeHTTP, corev1.URISchemeHTTPS)

// livenessProbe also serves startup probes: one success decides both.
func (v *validator) livenessProbe(p *corev1.Probe, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateProbe(p, path)
	if p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

func (v *validator) readinessProbe(p *corev1.Probe, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateProbe(p, path)
	if p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	return errs
}

func validateProbe(p *corev1.Probe, path *field.Path) field.ErrorList {
	errs := validateHandler(handler{exec: p.Exec, http: p.HTTPGet, tcp: p.TCPSocket, grpc: p.GRPC}, 0, path)
	for _, n := range []struct {
		child string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds}, {"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, check.NonNegative(n.value, path.Child(n.child))...)
	}
	if t := p.TerminationGracePeriodSeconds; t != nil && *t <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *t, "must be greater than 0"))
	}
	return errs
}

func (v *validator) lifecycle(l *corev1.Lifecycle, path *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	if h := l.PostStart; h != nil {
		errs = append(errs, validateHandler(handler{exec: h.Exec, http: h.HTTPGet, tcp: h.TCPSocket, sleep: h.Sleep}, v.grace(), path.Child("postStart"))...)
	}
	if h := l.PreStop; h != nil {
		errs = append(errs, validateHandler(handler{exec: h.Exec, http: h.HTTPGet, tcp: h.TCPSocket, sleep: h.Sleep}, v.grace(), path.Child("preStop"))...)
	}
	if l.StopSignal != nil {
		errs = append(errs, v.stopSignal(*l.StopSignal, path.Child("stopSignal"))...)
	}
	return errs
}

func (v *validator) stopSignal(signal corev1.Signal, path *field.Path) field.ErrorList {
	if v.spec.OS == nil {
		return field.ErrorList{field.Forbidden(path, "may not be set for containers with empty `spec.os.name`")}
	}
	switch v.spec.OS.Name {
	case corev1.Windows:
		return check.OneOfOrBad(signal, windowsSignals, path)
	case corev1.Linux:
		return check.OneOfOrBad(signal, linuxSignals, path)
	}
	return nil
}

var (
	windowsSignals = sets.New(corev1.SIGKILL, corev1.SIGTERM)
	linuxSignals   = sets.New(
		corev1.SIGABRT, corev1.SIGALRM, corev1.SIGBUS, corev1.SIGCHLD, corev1.SIGCLD, corev1.SIGCONT, corev1.SIGFPE, corev1.SIGHUP,
		corev1.SIGILL, corev1.SIGINT, corev1.SIGIO, corev1.SIGIOT, corev1.SIGKILL, corev1.SIGPIPE, corev1.SIGPOLL, corev1.SIGPROF,
		corev1.SIGPWR, corev1.SIGQUIT, corev1.SIGSEGV, corev1.SIGSTKFLT, corev1.SIGSTOP, corev1.SIGSYS, corev1.SIGTERM, corev1.SIGTRAP,
		corev1.SIGTSTP, corev1.SIGTTIN, corev1.SIGTTOU, corev1.SIGURG, corev1.SIGUSR1, corev1.SIGUSR2, corev1.SIGVTALRM, corev1.SIGWINCH,
		corev1.SIGXCPU, corev1.SIGXFSZ, corev1.SIGRTMIN, corev1.SIGRTMINPLUS1, corev1.SIGRTMINPLUS2, corev1.SIGRTMINPLUS3,
		corev1.SIGRTMINPLUS4, corev1.SIGRTMINPLUS5, corev1.SIGRTMINPLUS6, corev1.SIGRTMINPLUS7, corev1.SIGRTMINPLUS8,
		corev1.SIGRTMINPLUS9, corev1.SIGRTMINPLUS10, corev1.SIGRTMINPLUS11, corev1.SIGRTMINPLUS12, corev1.SIGRTMINPLUS13,
		corev1.SIGRTMINPLUS14, corev1.SIGRTMINPLUS15, corev1.SIGRTMAXMINUS14, corev1.SIGRTMAXMINUS13, corev1.SIGRTMAXMINUS12,
		corev1.SIGRTMAXMINUS11, corev1.SIGRTMAXMINUS10, corev1.SIGRTMAXMINUS9, corev1.SIGRTMAXMINUS8, corev1.SIGRTMAXMINUS7,
		corev1.SIGRTMAXMINUS6, corev1.SIGRTMAXMINUS5, corev1.SIGRTMAXMINUS4, corev1.SIGRTMAXMINUS3, corev1.SIGRTMAXMINUS2,
		corev1.SIGRTMAXMINUS1, corev1.SIGRTMAX)
)

// handler is what a probe or a hook does; exactly one of its fields must be set.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

// validateHandler checks a handler; grace bounds how long it may sleep.
func validateHandler(h handler, grace int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	one := func(child string, check func(*field.Path) field.ErrorList) {
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(path.Child(child), "may not specify more than 1 handler type"))
			return
		}
		errs = append(errs, check(path.Child(child))...)
	}
	if h.exec != nil {
		one("exec", func(path *field.Path) field.ErrorList {
			if len(h.exec.Command) == 0 {
				return field.ErrorList{field.Required(path.Child("command"), "")}
			}
			return nil
		})
	}
	if h.http != nil {
		one("httpGet", func(path *field.Path) field.ErrorList { return validateHTTPGet(h.http, path) })
	}
	if h.tcp != nil {
		one("tcpSocket", func(path *field.Path) field.ErrorList {
			return check.PortNumOrName(h.tcp.Port, path.Child("port"))
		})
	}
	if h.grpc != nil {
		one("grpc", func(path *field.Path) field.ErrorList {
			return check.PortNumOrName(intstr.FromInt32(h.grpc.Port), path.Child("port"))
		})
	}
	if h.sleep != nil {
		one("sleep", func(path *field.Path) field.ErrorList {
			if h.sleep.Seconds < 0 || h.sleep.Seconds > grace {
				return field.ErrorList{field.Invalid(path, h.sleep.Seconds,
					fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace))}
			}
			return nil
		})
	}
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(h *corev1.HTTPGetAction, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if h.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	}
	errs = append(errs, check.PortNumOrName(h.Port, path.Child("port"))...)
	errs = append(errs, check.OneOfOrBad(h.Scheme, schemes, path.Child("scheme"))...)
	for _, header := range h.HTTPHeaders {
		errs = append(errs, check.Invalid(header.Name, validation.IsHTTPHeaderName(header.Name), path.Child("httpHeaders"))...)
	}
	return errs
}

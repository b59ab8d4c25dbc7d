package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	terminationMessagePolicies = sets.New(corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	pullPolicies               = sets.New(corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	protocols                  = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	containerRestartPolicies   = sets.New(corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever)
	restartRuleActions         = sets.New(corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
	restartRuleOperators       = sets.New(corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
)

// container checks what holds for containers of all three sorts.
func (v *validator) container(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, check.DNSLabel(c.Name, path.Child("name"))...)
	}
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	} else if v.opts.Pod && !v.opts.OldImageNames && strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, check.OneOf(c.TerminationMessagePolicy, terminationMessagePolicies, path.Child("terminationMessagePolicy"))...)
	errs = append(errs, validatePorts(c.Ports, path.Child("ports"))...)
	errs = append(errs, v.env(c.Env, path.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, v.mounts(c, path.Child("volumeMounts"))...)
	errs = append(errs, v.devices(c, path.Child("volumeDevices"))...)
	errs = append(errs, check.OneOf(c.ImagePullPolicy, pullPolicies, path.Child("imagePullPolicy"))...)
	errs = append(errs, v.resources(&c.Resources, path.Child("resources"))...)
	errs = append(errs, v.resizePolicy(c.ResizePolicy, path.Child("resizePolicy"))...)
	return append(errs, v.containerSecurity(c.SecurityContext, path.Child("securityContext"))...)
}

// running checks the parts of a container that runs beside others: probes and lifecycle.
func (v *validator) running(c *corev1.Container, path *field.Path) field.ErrorList {
	errs := v.lifecycle(c.Lifecycle, path.Child("lifecycle"))
	errs = append(errs, v.livenessProbe(c.LivenessProbe, path.Child("livenessProbe"))...)
	errs = append(errs, v.readinessProbe(c.ReadinessProbe, path.Child("readinessProbe"))...)
	return append(errs, v.livenessProbe(c.StartupProbe, path.Child("startupProbe"))...)
}

func (v *validator) containers(path *field.Path) field.ErrorList {
	if len(v.spec.Containers) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	seen := make(map[string]bool, len(v.spec.Containers))
	for i := range v.spec.Containers {
		c, path := &v.spec.Containers[i], path.Index(i)
		errs = append(errs, v.container(c, path)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
		}
		seen[c.Name] = true
		errs = append(errs, v.running(c, path)...)
		errs = append(errs, validateRestart(c, path)...)
	}
	return append(errs, hostPortConflicts(v.spec.Containers, 0, path)...)
}

// sidecar says that an init container goes on running beside the containers.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

const notForInit = "may not be set for init containers without restartPolicy=Always"

func (v *validator) initContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool, len(v.spec.Containers)+len(v.spec.InitContainers))
	for i := range v.spec.Containers {
		seen[v.spec.Containers[i].Name] = true
	}
	for i := range v.spec.InitContainers {
		c, at := &v.spec.InitContainers[i], path.Index(i)
		errs = append(errs, v.container(c, at)...)
		errs = append(errs, validateRestart(c, at)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		} else if c.Name != "" {
			seen[c.Name] = true
		}
		// Init containers run one by one, so only a container's own ports can collide.
		errs = append(errs, hostPortConflicts(v.spec.InitContainers[i:i+1], i, path)...)
		if sidecar(c) {
			errs = append(errs, v.running(c, at)...)
			continue
		}
		for _, part := range []struct {
			child string
			set   bool
		}{
			{"lifecycle", c.Lifecycle != nil}, {"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil}, {"startupProbe", c.StartupProbe != nil},
		} {
			if part.set {
				errs = append(errs, field.Forbidden(at.Child(part.child), notForInit))
			}
		}
		for r, p := range c.ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer {
				errs = append(errs, field.Invalid(at.Child("resizePolicy").Index(r).Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
			}
		}
	}
	return errs
}

const notForEphemeral = "cannot be set for an Ephemeral Container"

func (v *validator) ephemeralContainers(path *field.Path) field.ErrorList {
	if len(v.spec.EphemeralContainers) == 0 {
		return nil
	}
	var errs field.ErrorList
	others, seen := sets.New[string](), sets.New[string]()
	for _, list := range [][]corev1.Container{v.spec.Containers, v.spec.InitContainers} {
		for i := range list {
			others.Insert(list[i].Name)
			seen.Insert(list[i].Name)
		}
	}
	for i := range v.spec.EphemeralContainers {
		ec, path := &v.spec.EphemeralContainers[i], path.Index(i)
		c := (*corev1.Container)(&ec.EphemeralContainerCommon)
		errs = append(errs, v.container(c, path)...)
		for _, part := range []struct {
			child string
			set   bool
		}{
			{"ports", len(c.Ports) > 0},
			{"resources", len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0},
			{"resizePolicy", len(c.ResizePolicy) > 0},
			{"restartPolicy", c.RestartPolicy != nil},
			{"restartPolicyRules", len(c.RestartPolicyRules) > 0},
			{"livenessProbe", c.LivenessProbe != nil}, {"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil}, {"lifecycle", c.Lifecycle != nil},
		} {
			if part.set {
				errs = append(errs, field.Forbidden(path.Child(part.child), notForEphemeral))
			}
		}
		for m := range c.VolumeMounts {
			at := path.Child("volumeMounts").Index(m)
			if c.VolumeMounts[m].SubPath != "" {
				errs = append(errs, field.Forbidden(at.Child("subPath"), notForEphemeral))
			}
			if c.VolumeMounts[m].SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("subPathExpr"), notForEphemeral))
			}
		}
		if seen.Has(ec.Name) {
			errs = append(errs, field.Duplicate(path.Child("name"), ec.Name))
		}
		seen.Insert(ec.Name)
		if ec.TargetContainerName != "" && !others.Has(ec.TargetContainerName) {
			errs = append(errs, field.NotFound(path.Child("targetContainerName"), ec.TargetContainerName))
		}
	}
	return errs
}

func validatePorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool, len(ports))
	for i := range ports {
		port, path := &ports[i], path.Index(i)
		if port.Name != "" {
			if msgs := validation.IsValidPortName(port.Name); len(msgs) > 0 {
				errs = append(errs, check.Invalid(port.Name, msgs, path.Child("name"))...)
			} else if seen[port.Name] {
				errs = append(errs, field.Duplicate(path.Child("name"), port.Name))
			}
			seen[port.Name] = true
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(path.Child("containerPort"), ""))
		} else {
			errs = append(errs, check.Port(port.ContainerPort, path.Child("containerPort"))...)
		}
		if port.HostPort != 0 {
			errs = append(errs, check.Port(port.HostPort, path.Child("hostPort"))...)
		}
		errs = append(errs, check.OneOf(port.Protocol, protocols, path.Child("protocol"))...)
	}
	return errs
}

// hostPortConflicts finds ports of the node that are asked for twice; path is that of the list,
// first the index of its first container.
func hostPortConflicts(containers []corev1.Container, first int, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var seen map[string]bool
	for i := range containers {
		for p, port := range containers[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			id := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
			if seen[id] {
				errs = append(errs, field.Duplicate(path.Index(first+i).Child("ports").Index(p).Child("hostPort"), id))
			}
			if seen == nil {
				seen = make(map[string]bool)
			}
			seen[id] = true
		}
	}
	return errs
}

// hostPorts checks that ports in the node's own network are what they are on the node.
func (v *validator) hostPorts(path *field.Path) field.ErrorList {
	if !v.spec.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	for i := range v.spec.Containers {
		for p, port := range v.spec.Containers[i].Ports {
			// A template may leave hostPort out: it is filled in when the pod is made.
			if port.HostPort != port.ContainerPort && (v.opts.Pod || port.HostPort != 0) {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Child("ports").Index(p).Child("hostPort"),
					port.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// maxRestartRules and maxExitCodes bound the rules of one container.
const (
	maxRestartRules = 20
	maxExitCodes    = 255
)

// validateRestart checks a container's own restart policy and its rules.
func validateRestart(c *corev1.Container, path *field.Path) field.ErrorList {
	errs := check.OptionalOneOf(c.RestartPolicy, containerRestartPolicies, path.Child("restartPolicy"))
	if len(c.RestartPolicyRules) == 0 {
		return errs
	}
	if c.RestartPolicy == nil {
		errs = append(errs, field.Required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	path = path.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > maxRestartRules {
		errs = append(errs, field.TooMany(path, len(c.RestartPolicyRules), maxRestartRules))
	}
	for i, rule := range c.RestartPolicyRules {
		path := path.Index(i)
		errs = append(errs, check.OneOfOrBad(rule.Action, restartRuleActions, path.Child("action"))...)
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(path.Child("exitCodes"), "must be specified"))
			continue
		}
		errs = append(errs, check.OneOfOrBad(rule.ExitCodes.Operator, restartRuleOperators, path.Child("exitCodes", "operator"))...)
		if n := len(rule.ExitCodes.Values); n > maxExitCodes {
			errs = append(errs, field.TooMany(path.Child("exitCodes", "values"), n, maxExitCodes))
		}
	}
	return errs
}

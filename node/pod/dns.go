package pod

import (
	"bufio"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dnsFacts is what resolv.conf files of pods are made of.
type dnsFacts struct {
	// server is the cluster's DNS address and domain its domain; empty when there is none.
	server, domain string
	// host is the node's own resolver configuration.
	host *cri.DNSConfig
}

// Limits of resolv.conf as the C library and Kubernetes have them.
const (
	maxNameservers = 3
	maxSearches    = 32
)

// dnsConfig builds a pod's resolv.conf by its policy.
func dnsConfig(p *corev1.Pod, facts dnsFacts) *cri.DNSConfig {
	policy := p.Spec.DNSPolicy
	out := &cri.DNSConfig{}
	cluster := policy == corev1.DNSClusterFirstWithHostNet || (policy == corev1.DNSClusterFirst || policy == "") && !p.Spec.HostNetwork
	switch {
	case policy == corev1.DNSNone:
	case cluster && facts.server != "":
		out.Servers = []string{facts.server}
		if facts.domain != "" {
			out.Searches = []string{p.Namespace + ".svc." + facts.domain, "svc." + facts.domain, facts.domain}
		}
		out.Searches = append(out.Searches, facts.host.GetSearches()...)
		out.Options = []string{"ndots:5"}
	default:
		out.Servers = slices.Clone(facts.host.GetServers())
		out.Searches = slices.Clone(facts.host.GetSearches())
		out.Options = slices.Clone(facts.host.GetOptions())
	}
	if own := p.Spec.DNSConfig; own != nil {
		out.Servers = append(out.Servers, own.Nameservers...)
		out.Searches = append(out.Searches, own.Searches...)
		out.Options = mergeOptions(out.Options, own.Options)
	}
	out.Servers = firstUnique(out.Servers, maxNameservers)
	out.Searches = firstUnique(out.Searches, maxSearches)
	return out
}

func mergeOptions(have []string, own []corev1.PodDNSConfigOption) []string {
	for _, o := range own {
		have = slices.DeleteFunc(have, func(h string) bool {
			name, _, _ := strings.Cut(h, ":")
			return name == o.Name
		})
		if o.Value != nil && *o.Value != "" {
			have = append(have, o.Name+":"+*o.Value)
		} else {
			have = append(have, o.Name)
		}
	}
	return have
}

func firstUnique(in []string, most int) []string {
	var out []string
	for _, s := range in {
		if s != "" && !slices.Contains(out, s) && len(out) < most {
			out = append(out, s)
		}
	}
	return out
}

// ParseResolvConf reads a resolv.conf file.
func ParseResolvConf(r io.Reader) (*cri.DNSConfig, error) {
	out := &cri.DNSConfig{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search", "domain":
			out.Searches = f[1:]
		case "options":
			out.Options = append(out.Options, f[1:]...)
		}
	}
	return out, lines.Err()
}

package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/troupe-run/troupe/proxy/feed"
)

// The chains that exist always.
const (
	servicesChain  = "TROUPE-SERVICES"
	nodePortsChain = "TROUPE-NODEPORTS"
	snatChain      = "TROUPE-PROXY-SNAT"
	markChain      = "TROUPE-PROXY-MARK"
	rejectChain    = "TROUPE-PROXY-REJECT"
	forwardChain   = "TROUPE-PROXY-FORWARD"
	localChain     = "TROUPE-PROXY-LOCAL"
)

// The heads of chain names that are made per block, service port or endpoint.
const (
	ipHead   = "TROUPE-IP-"   // a block of service addresses
	portHead = "TROUPE-PORT-" // a block of node ports
	extHead  = "TROUPE-EXT-"  // a service port, for traffic from outside
	svcHead  = "TROUPE-SVC-"  // a service port, all endpoints
	svlHead  = "TROUPE-SVL-"  // a service port, endpoints of this node
	sepHead  = "TROUPE-SEP-"  // one endpoint of a service port
)

// markBit is the packet mark that asks for masquerading. Kubernetes uses 0x4000 and 0x8000, the
// port-map plugin 0x2000, Tailscale 0xff0000: this one is nobody's.
const markBit = "0x1000/0x1000"

// table is an iptables table.
type table string

const (
	nat    table = "nat"
	filter table = "filter"
)

// chains holds rules by chain name, without the leading "-A name".
type chains map[string][]string

// tables holds chains by table.
type tables map[table]chains

func newTables() tables { return tables{nat: make(chains), filter: make(chains)} }

// owned says whether a chain is one of ours. Other parts of troupe have chains, too.
func owned(chain string) bool {
	switch chain {
	case servicesChain, nodePortsChain, snatChain, markChain, rejectChain, forwardChain, localChain:
		return true
	}
	for _, head := range []string{ipHead, portHead, extHead, svcHead, svlHead, sepHead} {
		if strings.HasPrefix(chain, head) {
			return true
		}
	}
	return false
}

// rank orders chains so that each jumps only to lower ones: writing in this order never leaves a
// jump into nothing.
func rank(chain string) int {
	for i, head := range []string{markChain, sepHead, svcHead, svlHead, extHead, ipHead, portHead, nodePortsChain} {
		if strings.HasPrefix(chain, head) {
			return i
		}
	}
	return 8
}

// compareRank sorts by rank, then by the ends of the names: repeatable, but not the order of the
// names. iptables' nft variant sorts chains when it lists them, by a method that takes fifteen
// times as long when the kernel has them in order already.
func compareRank(a, b string) int {
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return cmp.Or(strings.Compare(ending(a), ending(b)), strings.Compare(a, b))
}

func ending(chain string) string { return chain[max(0, len(chain)-8):] }

// hash makes the variable part of a chain name; the kernel allows 28 characters in all.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

// hook is a jump from a chain of the kernel to one of ours.
type hook struct {
	table table
	chain string
	rule  []string
}

func (h hook) text() string { return strings.Join(h.rule, " ") }

// hooks returns all jumps, in the order they shall stand in. New connections only are looked at
// for rejection: what is established was served when it began.
func hooks() []hook {
	isNew := func(to string) []string { return []string{"-m", "conntrack", "--ctstate", "NEW", "-j", to} }
	return []hook{
		{nat, "PREROUTING", []string{"-j", servicesChain}},
		{nat, "OUTPUT", []string{"-j", servicesChain}},
		{nat, "POSTROUTING", []string{"-j", snatChain}},
		{filter, "INPUT", isNew(rejectChain)},
		{filter, "INPUT", []string{"-j", localChain}},
		{filter, "FORWARD", isNew(rejectChain)},
		{filter, "FORWARD", []string{"-j", forwardChain}},
		{filter, "OUTPUT", isNew(rejectChain)},
		{filter, "OUTPUT", []string{"-j", localChain}},
	}
}

// settings is what rules depend on besides the services; one per IP family.
type settings struct {
	ipv6 bool
	// node is this node's name, for policies that want local endpoints.
	node string
	// pods is the network of all pods; what comes from elsewhere to a cluster IP is masqueraded.
	pods netip.Prefix
	// services are the networks whose every unserved address is rejected.
	services []netip.Prefix
	// bridge is set when bridged packets bypass iptables: replies between pods of this bridge
	// would not be translated back, so they are masqueraded to pass through the node.
	bridge string
}

// serves says whether an address belongs to this family.
func (s settings) serves(a netip.Addr) bool { return a.Is6() == s.ipv6 }

// rejectWith is how iptables spells the refusal it uses by default.
func (s settings) rejectWith() string {
	if s.ipv6 {
		return "-j REJECT --reject-with icmp6-port-unreachable"
	}
	return "-j REJECT --reject-with icmp-port-unreachable"
}

// mask is how iptables spells the mask of the recent module.
func (s settings) mask() string {
	if s.ipv6 {
		return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	}
	return "255.255.255.255"
}

// host returns an address as iptables prints it.
func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// blockOf returns the network of 256 addresses that a belongs to, and the name of its chain.
func blockOf(a netip.Addr) (netip.Prefix, string) {
	block := netip.PrefixFrom(a, a.BitLen()-8).Masked()
	if a.Is4() {
		return block, ipHead + block.Addr().String()
	}
	return block, ipHead + hash(block.String())
}

// portBlock returns the 64 node ports that p belongs to, and the name of their chain.
func portBlock(protocol string, p uint16) (first, last uint16, chain string) {
	first = p &^ 63
	return first, first + 63, fmt.Sprintf("%s%s-%d", portHead, protocol, first)
}

// fixed returns the chains that do not depend on services.
func (s settings) fixed() tables {
	t := newTables()
	t[nat][markChain] = []string{"-j MARK --set-xmark " + markBit}
	if s.bridge != "" && s.pods.IsValid() {
		t[nat][snatChain] = []string{fmt.Sprintf("-s %s -d %s -o %s -m conntrack --ctstate DNAT -j MASQUERADE --random-fully", s.pods, s.pods, s.bridge)}
	}
	t[nat][snatChain] = append(t[nat][snatChain],
		"-m mark ! --mark "+markBit+" -j RETURN",
		"-j MARK --set-xmark 0x1000/0x0", // a packet that passes again shall be judged again
		"-j MASQUERADE --random-fully",
	)
	t[filter][forwardChain] = []string{
		"-m conntrack --ctstate INVALID -j DROP", // else a late packet would reset its connection
		"-m mark --mark " + markBit + " -j ACCEPT",
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	}
	t[filter][localChain] = nil
	if !s.ipv6 { // route_localnet must not open 127.0.0.1 to neighbours
		t[filter][localChain] = []string{"! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"}
	}
	return t
}

// lastResort returns the rules that reject every address of the service networks which nothing
// served. Addresses of this node are spared: DNS listens on one.
func (s settings) lastResort() []string {
	var out []string
	for _, cidr := range s.services {
		out = append(out, fmt.Sprintf("-d %s -m addrtype ! --dst-type LOCAL %s", cidr, s.rejectWith()))
	}
	return out
}

// covered says whether lastResort speaks for an address.
func (s settings) covered(a netip.Addr) bool {
	return slices.ContainsFunc(s.services, func(p netip.Prefix) bool { return p.Contains(a) })
}

// protocols maps protocols as the API spells them to iptables; what is missing is not served.
var protocols = map[string]string{feed.TCP: "tcp", feed.UDP: "udp", feed.SCTP: "sctp"}

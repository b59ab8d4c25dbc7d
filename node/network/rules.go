package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// waitForLock is how many seconds an iptables call waits for another one on the machine.
const waitForLock = 10

// ours is the start of the names of all chains of troupe, those of other packages included.
const ours = "TROUPE-"

// chain is one chain of ours, its rules, and the jump to it.
type chain struct {
	table, name string
	rules       [][]string
	parent      string
	match       []string // which packets of the parent go there
}

// chains are all rules of the pod network. Their names hold the bridge, so that two clusters on a
// machine do not meet.
func (n *Network) chains() []chain {
	c := n.cfg
	pods, cluster := c.PodCIDR.String(), c.ClusterCIDR.String()
	return []chain{
		{
			// Pods are masqueraded on their way out of the cluster; inside, all see their address.
			table: "nat", name: ours + "MASQ-" + c.Bridge, parent: "POSTROUTING", match: []string{"-s", pods},
			rules: [][]string{
				{"-d", cluster, "-j", "RETURN"},
				{"-d", "224.0.0.0/4", "-j", "RETURN"},
				{"-j", "MASQUERADE", "--random-fully"},
			},
		},
		{
			// Hosts with a policy of DROP for forwarding (docker sets one) would cut pods off.
			table: "filter", name: ours + "FWD-" + c.Bridge, parent: "FORWARD",
			rules: [][]string{
				{"-i", c.Bridge, "-j", "ACCEPT"},
				{"-o", c.Bridge, "-j", "ACCEPT"},
			},
		},
	}
}

func openTables() (*iptables.IPTables, error) {
	ipt, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Timeout(waitForLock))
	if err != nil {
		return nil, fmt.Errorf("use iptables: %w", err)
	}
	return ipt, nil
}

// ensureRules brings chains and jumps to what chains says. A chain that is right is not touched.
func (n *Network) ensureRules() error {
	ipt, err := openTables()
	if err != nil {
		return err
	}
	for _, c := range n.chains() {
		if err := c.ensure(ipt); err != nil {
			return fmt.Errorf("write chain %s of table %s: %w", c.name, c.table, err)
		}
	}
	return nil
}

func (c chain) ensure(ipt *iptables.IPTables) error {
	exists, err := ipt.ChainExists(c.table, c.name)
	if err != nil {
		return err
	}
	if !exists {
		if err := ipt.NewChain(c.table, c.name); err != nil {
			return err
		}
	}
	right, err := c.right(ipt)
	if err != nil {
		return err
	}
	if !right {
		if err := ipt.ClearChain(c.table, c.name); err != nil {
			return err
		}
		for _, rule := range c.rules {
			if err := ipt.Append(c.table, c.name, rule...); err != nil {
				return err
			}
		}
	}
	return c.ensureJump(ipt)
}

// right says whether the chain holds its rules, all of them and in order.
func (c chain) right(ipt *iptables.IPTables) (bool, error) {
	have, err := ipt.List(c.table, c.name)
	if err != nil {
		return false, err
	}
	want := []string{"-N " + c.name}
	for _, rule := range c.rules {
		want = append(want, strings.Join(append([]string{"-A", c.name}, rule...), " "))
	}
	return slices.Equal(have, want), nil
}

// ensureJump leaves exactly one jump to the chain. It stands before the rules of others and after
// other jumps of ours: the proxy refuses services without endpoints before anything is accepted.
func (c chain) ensureJump(ipt *iptables.IPTables) error {
	rules, err := ipt.List(c.table, c.parent)
	if err != nil {
		return err
	}
	jumps := 0
	for _, r := range rules {
		if strings.HasSuffix(r, "-j "+c.name) {
			jumps++
		}
	}
	present, err := ipt.Exists(c.table, c.parent, c.jump()...)
	if err != nil || present && jumps == 1 {
		return err
	}
	if err := c.removeJumps(ipt); err != nil {
		return err
	}
	if rules, err = ipt.List(c.table, c.parent); err != nil {
		return err
	}
	position := 1
	for i, r := range rules { // the first line is the policy, so that an index is a rule's number
		if strings.Contains(r, "-j "+ours) {
			position = i + 1
		}
	}
	return ipt.Insert(c.table, c.parent, position, c.jump()...)
}

func (c chain) jump() []string { return append(slices.Clone(c.match), "-j", c.name) }

// removeJumps deletes every jump to the chain, also one written for an earlier pod range.
func (c chain) removeJumps(ipt *iptables.IPTables) error {
	rules, err := ipt.List(c.table, c.parent)
	if err != nil {
		return err
	}
	for _, r := range rules {
		spec, isRule := strings.CutPrefix(r, "-A "+c.parent+" ")
		if !isRule || !strings.HasSuffix(r, "-j "+c.name) {
			continue
		}
		if err := ipt.DeleteIfExists(c.table, c.parent, strings.Fields(spec)...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) removeRules() error {
	ipt, err := openTables()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range n.chains() {
		if err := c.remove(ipt); err != nil {
			errs = append(errs, fmt.Errorf("remove chain %s of table %s: %w", c.name, c.table, err))
		}
	}
	errs = append(errs, removeHostPortChains(ipt))
	return errors.Join(errs...)
}

func (c chain) remove(ipt *iptables.IPTables) error {
	exists, err := ipt.ChainExists(c.table, c.name)
	if err != nil || !exists {
		return err
	}
	if err := c.removeJumps(ipt); err != nil {
		return err
	}
	return ipt.ClearAndDeleteChain(c.table, c.name)
}

// removeHostPortChains removes what the portmap plugin never does: the chains it shares between
// all pods, of other CNI users of this machine too. They go only when no pod has a host port.
func removeHostPortChains(ipt *iptables.IPTables) error {
	const table, dnat, setMark, masq = "nat", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"
	exists, err := ipt.ChainExists(table, dnat)
	if err != nil || !exists {
		return err
	}
	rules, err := ipt.List(table, dnat)
	if err != nil {
		return fmt.Errorf("list chain %s: %w", dnat, err)
	}
	if len(rules) > 1 {
		return nil
	}
	for _, parent := range []string{"PREROUTING", "OUTPUT", "POSTROUTING"} {
		rules, err := ipt.List(table, parent)
		if err != nil {
			return fmt.Errorf("list chain %s: %w", parent, err)
		}
		for i, r := range slices.Backward(rules) {
			if !strings.Contains(r, "-j "+dnat) && !strings.Contains(r, "-j "+masq) {
				continue
			}
			// The first line is the policy, so that an index is a rule's number.
			if err := ipt.DeleteById(table, parent, i); err != nil {
				return fmt.Errorf("remove jump to %s: %w", dnat, err)
			}
		}
	}
	for _, name := range []string{dnat, setMark, masq} {
		if exists, err := ipt.ChainExists(table, name); err != nil || !exists {
			continue
		}
		if err := ipt.ClearAndDeleteChain(table, name); err != nil {
			return fmt.Errorf("remove chain %s: %w", name, err)
		}
	}
	return nil
}

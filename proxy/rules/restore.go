package rules

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// batch bounds the chains written in one transaction. iptables' nft variant searches the chains
// of a transaction one by one: 15,000 at once take ten times as long as 30 times 500.
const batch = 500

// diff is what to write to one table: chains to replace or create, and chains to delete, both in
// an order that never leaves a jump into nothing.
type diff struct {
	table  table
	put    []string
	remove []string
}

// compare says how to get a table from have to want; among limits the look to some chains, nil
// means all.
func compare(t table, want, have chains, among map[string]bool) diff {
	d := diff{table: t}
	look := func(chain string) {
		rules, wanted := want[chain]
		had, there := have[chain]
		switch {
		case wanted && (!there || !slices.Equal(rules, had)):
			d.put = append(d.put, chain)
		case !wanted && there:
			d.remove = append(d.remove, chain)
		}
	}
	if among != nil {
		for chain := range among {
			look(chain)
		}
	} else {
		for chain := range want {
			look(chain)
		}
		for chain := range have {
			if _, wanted := want[chain]; !wanted {
				look(chain)
			}
		}
	}
	slices.SortFunc(d.put, compareRank)
	slices.SortFunc(d.remove, compareRank)
	slices.Reverse(d.remove)
	return d
}

func (d diff) empty() bool { return len(d.put) == 0 && len(d.remove) == 0 }

// write adds the input of iptables-restore that performs d. The first transaction also declares
// what an interrupted earlier run may have left half-done, for each chain is replaced as a whole.
func (d diff) write(b *bytes.Buffer, want chains) {
	for part := range slices.Chunk(d.put, batch) {
		d.begin(b)
		for _, chain := range part {
			declare(b, chain)
		}
		for _, chain := range part {
			for _, rule := range want[chain] {
				b.WriteString("-A ")
				b.WriteString(chain)
				b.WriteByte(' ')
				b.WriteString(rule)
				b.WriteByte('\n')
			}
		}
		b.WriteString("COMMIT\n")
	}
	for part := range slices.Chunk(d.remove, batch) {
		d.begin(b)
		for _, chain := range part {
			declare(b, chain) // empties it
		}
		for _, chain := range part {
			b.WriteString("-X ")
			b.WriteString(chain)
			b.WriteByte('\n')
		}
		b.WriteString("COMMIT\n")
	}
}

func (d diff) begin(b *bytes.Buffer) {
	b.WriteByte('*')
	b.WriteString(string(d.table))
	b.WriteByte('\n')
}

func declare(b *bytes.Buffer, chain string) {
	b.WriteByte(':')
	b.WriteString(chain)
	b.WriteString(" - [0:0]\n")
}

// note records that d was written.
func (d diff) note(want, have chains) {
	for _, chain := range d.put {
		have[chain] = want[chain]
	}
	for _, chain := range d.remove {
		delete(have, chain)
	}
}

// parse reads the output of iptables-save: our chains with their rules, and the rules of all other
// chains that jump to ours.
func parse(out []byte) (have chains, jumps map[string][]string) {
	have, jumps = make(chains), make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, ":"):
			if chain, _, _ := strings.Cut(line[1:], " "); owned(chain) {
				have[chain] = nil
			}
		case strings.HasPrefix(line, "-A "):
			chain, rule, _ := strings.Cut(line[3:], " ")
			if owned(chain) {
				have[chain] = append(have[chain], rule)
			} else if _, to, ok := strings.Cut(rule, "-j "); ok && owned(to) {
				jumps[chain] = append(jumps[chain], rule)
			}
		}
	}
	return have, jumps
}

// missing returns the hooks of a table that are not there, as they shall stand.
func missing(t table, jumps map[string][]string) []hook {
	var out []hook
	for _, h := range hooks() {
		if h.table == t && !slices.Contains(jumps[h.chain], h.text()) {
			out = append(out, h)
		}
	}
	return out
}

// ownChains returns all chains of a table as something to delete.
func ownChains(t table, have chains) diff {
	d := diff{table: t, remove: slices.SortedFunc(maps.Keys(have), compareRank)}
	slices.Reverse(d.remove)
	return d
}

package api

import "fmt"

// jsonShape follows JSON, byte by byte, closely enough to count. It does not judge what is no JSON:
// whoever reads it does.
type jsonShape struct {
	open            []level
	values          int
	inText, escaped bool
	asKey           bool   // the text is a key
	text            []byte // of the key, as far as it may be of interest
	num             number // the value, as far as it is one
}

// level is a list or map that is open.
type level struct {
	list, wantKey bool
	elements      int
	key           string // of the member that is being read
}

// longestKey is as much of a key as is kept.
const longestKey = 24

func (s *jsonShape) scan(p []byte) (problem string) {
	for _, b := range p {
		if s.inText {
			switch {
			case s.escaped:
				s.escaped = false
			case b == '\\':
				s.escaped = true
			case b == '"':
				s.inText = false
				if s.asKey {
					top := &s.open[len(s.open)-1]
					top.key, top.wantKey = string(s.text), false
				} else if problem := s.endNumber(); problem != "" {
					return problem
				}
				continue
			}
			if !s.asKey {
				s.num.add(b)
			} else if len(s.text) < longestKey {
				s.text = append(s.text, b)
			}
			continue
		}
		if problem := s.mark(b); problem != "" {
			return problem
		}
	}
	return ""
}

// mark takes a byte that is not within text.
func (s *jsonShape) mark(b byte) (problem string) {
	switch b {
	case '"':
		s.inText, s.num = true, number{}
		s.asKey = len(s.open) > 0 && s.open[len(s.open)-1].wantKey
		s.text = s.text[:0]
	case '[', '{':
		s.open = append(s.open, level{list: b == '[', wantKey: b == '{'})
		s.values++
		if len(s.open) > maxDepth {
			return fmt.Sprintf("lists and maps more than %d deep", maxDepth)
		}
	case ']', '}', ',', ' ', '\n', '\r', '\t':
		if problem := s.endNumber(); problem != "" {
			return problem
		}
		n := len(s.open)
		if n == 0 {
			break
		}
		top := &s.open[n-1]
		switch {
		case b == ']' || b == '}':
			s.open = s.open[:n-1]
		case b == ',' && top.list:
			s.values++
			if top.elements++; top.elements >= maxElements {
				return fmt.Sprintf("more than %d elements in one list", maxElements)
			}
		case b == ',':
			s.values++
			top.wantKey = true
		}
	case ':':
		s.num = number{}
	default:
		s.num.add(b)
	}
	if s.values > maxValues {
		return tooManyValues
	}
	return ""
}

// endNumber judges the value that has ended, if it is one where quantities stand.
func (s *jsonShape) endNumber() (problem string) {
	num := s.num
	s.num = number{}
	if !num.tooLarge() {
		return ""
	}
	for i := len(s.open) - 1; i >= max(len(s.open)-3, 0); i-- {
		if quantityKeys[s.open[i].key] {
			return tooLargeNumber
		}
	}
	return ""
}

// A number of few bytes can be of a thousand million digits, which the arithmetic of quantities
// writes out.
const (
	maxExponentDigits = 5
	maxDigits         = 10_000
)

// number follows a text that may be a number.
type number struct {
	digits, exponent int
	inExponent, not  bool
}

func (n *number) add(b byte) {
	switch {
	case n.not:
	case b >= '0' && b <= '9':
		if n.inExponent {
			n.exponent++
		} else {
			n.digits++
		}
	case (b == 'e' || b == 'E') && n.digits > 0 && !n.inExponent:
		n.inExponent = true
	case b == '+' || b == '-' || b == '.':
	default:
		// The rest may be a unit, which no exponent has.
		n.not, n.exponent = true, 0
	}
}

func (n *number) tooLarge() bool { return n.exponent > maxExponentDigits || n.digits > maxDigits }

// quantityKeys are the members, or members of members, that are quantities in some kind.
var quantityKeys = func() map[string]bool {
	keys := make(map[string]bool)
	for _, key := range []string{"limits", "requests", "capacity", "allocatable", "allocatedResources", "hard", "used", "default", "defaultRequest",
		"max", "min", "maxLimitRequestRatio", "overhead", "podFixed", "sizeLimit", "divisor", "averageValue", "target", "current",
		"maximumVolumeSize", "requestPolicy", "validValues", "validRange", "step", "consumedCapacity", "counters", "resources"} {
		keys[key] = true
	}
	return keys
}()

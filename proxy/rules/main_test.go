package rules

import (
	"testing"

	"github.com/troupe-run/troupe/proxy/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

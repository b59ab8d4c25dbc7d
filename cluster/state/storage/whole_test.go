package storage_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leftOut are the tests of upstream's suite that do not run here. Objects are decoded once, when the
// store is opened or writes them; what cannot be decoded makes it refuse to open. So there is no read
// that a value transformer could spoil, and the states that these tests plant do not exist. Nor is
// there anything stale to write again: records sealed with an old key are written anew by the store
// itself.
var leftOut = map[string]string{
	"RunTestGuaranteedUpdateChecksStoredData": "stores data that another transformer reads differently",
	"RunTestTransformationFailure":            "makes stored data unreadable while it is served",
	"RunTestWatchError":                       "makes stored data unreadable while it is watched",
	"RunTestWatchWithUnsafeDelete":            "deletes what cannot be read",
	"RunWatchErrorIsBlockingFurtherEvents":    "makes stored data unreadable while it is watched",
}

// TestSuiteIsWhole looks for tests of upstream's suite that neither run nor are left out for a reason.
func TestSuiteIsWhole(t *testing.T) {
	t.Parallel()
	pkg, err := build.Import("k8s.io/apiserver/pkg/storage/testing", ".", build.FindOnly)
	if err != nil {
		t.Skipf("upstream's source is not here: %v", err)
	}
	sources, err := filepath.Glob(filepath.Join(pkg.Dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("suite_test.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Run") || strings.HasPrefix(fn.Name.Name, "RunBenchmark") {
				continue
			}
			n++
			runs := strings.Contains(string(ours), "suite."+fn.Name.Name+"(")
			if _, out := leftOut[fn.Name.Name]; runs == out {
				t.Errorf("%s: runs %v, left out %v", fn.Name.Name, runs, out)
			}
		}
	}
	if n < 50 {
		t.Errorf("found %d tests upstream", n)
	}
}

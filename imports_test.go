// Package troupe_test holds the laws of the tree that a compiler does not know.
package troupe_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/troupe-run/troupe/"

// layers are the top-level folders, highest first: a folder imports itself and what stands below.
var layers = []string{"cmd", "testkit", "node", "proxy", "cluster", "actors", "messages", "proto"}

// forbidden imports by folder, beyond the layers.
var forbidden = map[string][]string{
	"node":  {module + "cluster"},
	"proxy": {module + "cluster"},
}

// nowhere lists what no package may import.
var nowhere = []string{
	"k8s.io/kubernetes",
	"github.com/asynkron/protoactor-go/remote",
	"github.com/asynkron/protoactor-go/cluster",
	"github.com/asynkron/protoactor-go/router",
	"github.com/asynkron/protoactor-go/scheduler",
	"github.com/asynkron/protoactor-go/persistence",
}

func TestImportsGoDownwards(t *testing.T) {
	for _, file := range goFiles(t) {
		layer := slices.Index(layers, top(file))
		if layer < 0 {
			continue
		}
		for _, imp := range imports(t, file) {
			if rest, own := strings.CutPrefix(imp, module); own {
				if to := slices.Index(layers, top(rest)); to < layer && !strings.HasSuffix(file, "_test.go") {
					t.Errorf("%s imports %s, which stands above it", file, imp)
				}
			}
			if !strings.HasSuffix(file, "_test.go") && within(imp, forbidden[top(file)]) {
				t.Errorf("%s must not import %s", file, imp)
			}
			if within(imp, nowhere) {
				t.Errorf("%s imports %s, which is not used in this project", file, imp)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	documented := make(map[string]bool)
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		documented[dir] = documented[dir] || f.Doc != nil
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment; write doc.go", dir)
		}
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && !slices.Contains(layers, e.Name()) {
			t.Errorf("folder %s does not belong at the top", e.Name())
		}
	}
}

func goFiles(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			out = append(out, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, 0, len(f.Imports))
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

func within(imp string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return imp == r || strings.HasPrefix(imp, r+"/") })
}

package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root is the repository's root as seen from this folder, where `go test` runs
// this package's tests.
const root = "../.."

// module is this repository's module path.
const module = "github.com/vllm-gateway/vllm-gateway"

// source is one Go file of the repository.
type source struct {
	path      string // from the root, with slashes: "vramman/ledger/ledger.go"
	pkg       string // the name in its package clause
	imports   []string
	lines     int
	generated bool
}

// folder is where the file is: "vramman/ledger", or "." for the root.
func (s source) folder() string { return path.Dir(s.path) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// sources reads every Go file, whatever platform or build tag it is for.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		s, err := read(filepath.ToSlash(rel), text)
		if err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// A walk that starts in the wrong place would find every rule kept.
	if len(all) < 20 {
		t.Fatalf("only %d Go files under %s: is that the root?", len(all), root)
	}
	return all
}

// read takes from a file what the rules look at.
func read(path string, text []byte) (source, error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	s := source{
		path:      path,
		pkg:       f.Name.Name,
		lines:     files.File(f.FileStart).LineCount(),
		generated: ast.IsGenerated(f),
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}

// text reads a file of the repository.
func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

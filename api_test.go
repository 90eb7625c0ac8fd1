package connmap_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the listings of what packages export anew")

// public returns the packages that others can import.
func public(t *testing.T) (packages []string) {
	for _, p := range list(t, "-f", `{{if ne .Name "main"}}{{.ImportPath}}{{end}}`, "./...") {
		p = strings.TrimPrefix(p, strings.TrimSuffix(module, "/"))
		if p = strings.TrimPrefix(p, "/"); p != "" && !strings.Contains("/"+p+"/", "/internal/") {
			packages = append(packages, p)
		}
	}
	return packages
}

// TestAPI: what a package exports on Linux stands in api/, so that a change of it is seen.
func TestAPI(t *testing.T) {
	packages := public(t)
	require.Greater(t, len(packages), 8)
	var files []string
	for _, p := range packages {
		name := filepath.Join("api", strings.ReplaceAll(p, "/", "_")+".txt")
		files = append(files, name)
		got := exported(t, p)
		if *update {
			require.NoError(t, os.MkdirAll("api", 0o755))
			require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
		}
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "package %s exports something else: if that is meant, go test -run API -update . and a line in CHANGELOG.md", p)
	}
	there, err := filepath.Glob("api/*.txt")
	require.NoError(t, err)
	assert.ElementsMatch(t, files, there)
}

// receiver returns the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		default:
			return t.(*ast.Ident).Name
		}
	}
}

// exported lists the declarations of a package without comments and bodies.
func exported(t *testing.T, dir string) string {
	var decls []string
	for _, name := range list(t, "-f", `{{join .GoFiles "\n"}}`, "./"+dir) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.FileExports(file)
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && !ast.IsExported(receiver(d)) {
					continue // it is nobody's outside, whatever interface it is for
				}
				d.Body = nil
			case *ast.GenDecl:
				if d.Tok == token.IMPORT {
					continue
				}
				for _, s := range d.Specs {
					// What a variable is set to is not part of it.
					if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.VAR {
						v.Values = nil
					}
				}
			}
			var b bytes.Buffer
			require.NoError(t, printer.Fprint(&b, fset, d))
			decls = append(decls, b.String())
		}
	}
	slices.Sort(decls)
	return strings.Join(decls, "\n\n") + "\n"
}

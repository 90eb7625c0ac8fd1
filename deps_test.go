package connmap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/connmapgo/connmap/"

// list asks go list about packages of this module.
func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err, "go list %v", args)
	return strings.Fields(string(out))
}

// TestDependencies keeps the house in order: who may come to depend on whom.
func TestDependencies(t *testing.T) {
	tests := []struct {
		name   string
		of     string
		never  []string // prefixes of import paths, of this module if they begin with ./
		direct bool     // only the package's own imports
	}{
		{"agents are small", "./cmd/connmap-agent", []string{"./geoip", "./asn", "./history", "./examples", "github.com/hajimehoshi", "modernc.org", "zombiezen.com"}, false},
		{"conntrack is a leaf", "./conntrack", []string{"./conntrack/feed", "./conntrack/conntracktest", "./conntrack/internal/traffic", "./geoip", "./asn", "./rules", "./history", "./examples", "net/http", "crypto/tls"}, false},
		{"frames need no connection", "./conntrack/feed/frame", []string{"crypto/tls", "crypto/x509", "net", "./conntrack/feed", "./geoip", "./asn", "./rules", "./history", "./examples"}, false},
		{"feed knows only conntrack", "./conntrack/feed", []string{"./geoip", "./asn", "./rules", "./history", "./examples"}, false},
		{"geoip is a leaf", "./geoip", []string{"./asn", "./rules", "./history", "./conntrack", "./examples", "./geoip/embedded", "net/http"}, false},
		{"asn is a leaf", "./asn", []string{"./geoip", "./rules", "./history", "./conntrack", "./examples", "./asn/embedded", "net/http"}, false},
		{"whois brings no tables", "./asn/whois", []string{"./rules", "./history", "./conntrack", "./examples", "./geoip/embedded", "./asn/embedded", "net/http"}, false},
		{"connmap-data has no map", "./cmd/connmap-data", []string{"./history", "./conntrack", "./examples", "./geoip/embedded", "./asn/embedded", "github.com/hajimehoshi", "modernc.org", "zombiezen.com"}, false},
		{"ip2asn has no map and no network", "./cmd/ip2asn", []string{"./history", "./conntrack", "./examples", "github.com/hajimehoshi", "modernc.org", "zombiezen.com", "net/http"}, false},
		{"rules is a leaf", "./rules", []string{"./geoip", "./asn", "./history", "./conntrack", "./examples"}, false},
		{"hilbert is a leaf", "./hilbert", []string{"./geoip", "./asn", "./rules", "./history", "./conntrack", "./examples"}, false},
		{"history has values and no database", "./history", []string{"./geoip", "./asn", "./rules", "./conntrack", "./examples", "./history/sqlite", "database/sql", "modernc.org", "zombiezen.com"}, false},
		{"a store knows only history", "./history/sqlite", []string{"./geoip", "./asn", "./rules", "./conntrack", "./examples"}, false},
		{"the monitor draws nothing and knows no store", "./examples/mapserver/internal/monitor", []string{"./history/sqlite", "github.com/hajimehoshi", "./examples/mapserver/internal/mapview", "./examples/mapserver/internal/gui", "./examples/mapserver/internal/paint"}, false},
		{"the view model has no window, socket or database", "./examples/mapserver/internal/mapview", []string{"github.com/hajimehoshi", "./history/sqlite", "modernc.org", "zombiezen.com", "./conntrack/feed", "./examples/mapserver/internal/monitor", "crypto/tls"}, false},
		{"the view model touches nothing outside itself", "./examples/mapserver/internal/mapview", []string{"net", "os"}, true},
		{"pictures need no window", "./examples/mapserver/internal/paint", []string{"github.com/hajimehoshi"}, false},
		{"no SQL in the window", "./examples/mapserver/internal/gui", []string{"./history/sqlite", "modernc.org", "zombiezen.com", "./conntrack/feed", "./examples/mapserver/internal/monitor"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var deps []string
			if tt.direct {
				deps = list(t, "-f", `{{join .Imports "\n"}}`, tt.of)
			} else {
				deps = list(t, "-deps", tt.of)
			}
			require.NotEmpty(t, deps)
			self := module + strings.TrimPrefix(tt.of, "./")
			for _, dep := range deps {
				for _, no := range tt.never {
					if own, ok := strings.CutPrefix(no, "./"); ok {
						no = module + own
					}
					bad := dep == no || strings.HasPrefix(dep, strings.TrimSuffix(no, "/")+"/")
					assert.False(t, bad && dep != self && dep != "net/netip", "%s must not depend on %s", tt.of, dep)
				}
			}
		})
	}
}

// TestInternalIsGround: what lies under internal/ is imported by the product, and imports
// nothing of it. internal/bench, a program, runs the benchmarks of the product as others would.
func TestInternalIsGround(t *testing.T) {
	lines := list(t, "-f", `{{.ImportPath}}={{join .Imports ","}}`, "./internal/...")
	require.Greater(t, len(lines), 8)
	for _, line := range lines {
		pkg, imports, _ := strings.Cut(line, "=")
		for _, dep := range strings.Split(imports, ",") {
			own, ok := strings.CutPrefix(dep, module)
			assert.False(t, ok && !strings.HasPrefix(own, "internal/"), "%s must not import %s", pkg, dep)
		}
	}
}

// TestConntrackImports: who embeds the collector gets three modules, and no more.
func TestConntrackImports(t *testing.T) {
	modules := map[string]bool{}
	for _, m := range list(t, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./conntrack") {
		modules[m] = true
	}
	assert.Equal(t, map[string]bool{strings.TrimSuffix(module, "/"): true, "github.com/cilium/ebpf": true, "golang.org/x/sys": true,
		"golang.org/x/net": true}, modules)
}

// TestWidgets: the widgets of the window know no map, no state and no connections.
func TestWidgets(t *testing.T) {
	var own []string
	for _, dep := range list(t, "-deps", "./examples/mapserver/internal/ui") {
		if name, ok := strings.CutPrefix(dep, module); ok {
			own = append(own, name)
		}
	}
	assert.ElementsMatch(t, []string{"examples/mapserver/internal/ui", "examples/mapserver/internal/typeface"}, own)
}

// TestOnlyImporter checks that what is heavy has one door.
func TestOnlyImporter(t *testing.T) {
	for heavy, door := range map[string]string{
		"github.com/hajimehoshi/ebiten": "examples/mapserver/internal/gui",
		"zombiezen.com/go/sqlite":       "history/sqlite",
		"modernc.org/":                  "history/sqlite",
		"github.com/cilium/ebpf":        "conntrack/internal/bpf",
	} {
		for _, line := range strings.Split(strings.Join(list(t, "-f", `{{.ImportPath}}={{join .Imports ","}}`, "./..."), "\n"), "\n") {
			pkg, imports, _ := strings.Cut(line, "=")
			if strings.Contains(imports, heavy) {
				assert.Equal(t, module+door, pkg, "only %s imports %s", door, heavy)
			}
		}
	}
}

// TestOnlyStoresWriteSQL: a second store shall say everything in its own way.
func TestOnlyStoresWriteSQL(t *testing.T) {
	for _, dir := range []string{"history", "examples/mapserver/internal/live", "examples/mapserver/internal/mapview", "examples/mapserver/internal/monitor"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if b, err := os.ReadFile(name); assert.NoError(t, err) && !strings.HasSuffix(name, "_test.go") {
				assert.NotRegexp(t, `"SELECT|FROM |detailed_history`, string(b), name)
			}
		}
	}
}

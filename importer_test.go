package connmap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestImporters builds a program of another module with each package alone: what it then
// depends on, and how large it is, does not grow unnoticed.
func TestImporters(t *testing.T) {
	if testing.Short() {
		t.Skip("links a dozen programs")
	}
	// What a program without any package takes is in each: about 1.2 MB.
	tests := []struct {
		pkg, use string
		modules  string  // besides this one
		mb       float64 // most, linked for amd64 without symbols
	}{
		{"conntrack", `conntrack.New(conntrack.Options{})`, "github.com/cilium/ebpf golang.org/x/net golang.org/x/sys", 5.4},
		{"conntrack/feed", `(&feed.Client{}).Run(context.Background())`, "github.com/cilium/ebpf github.com/fxamacker/cbor/v2 github.com/x448/float16 golang.org/x/net golang.org/x/sys golang.org/x/text", 8.2},
		{"conntrack/feed/frame", `frame.OpenTable(frame.TableOptions{})`, "github.com/cilium/ebpf github.com/fxamacker/cbor/v2 github.com/x448/float16 golang.org/x/net golang.org/x/sys", 4.8},
		{"conntrack/conntracktest", `conntracktest.Conns(1, 1)`, "github.com/cilium/ebpf golang.org/x/net golang.org/x/sys", 4.2},
		{"geoip", `geoip.Open("")`, "github.com/klauspost/compress github.com/ulikunitz/xz", 3.7},
		{"geoip/embedded", `embedded.DB()`, "github.com/klauspost/compress github.com/ulikunitz/xz", 10},
		{"asn", `asn.Open("")`, "github.com/klauspost/compress github.com/ulikunitz/xz", 3.7},
		{"asn/whois", `(&whois.Files{}).Open(nil)`, "github.com/klauspost/compress github.com/ulikunitz/xz", 4},
		{"asn/embedded", `embedded.DB()`, "github.com/klauspost/compress github.com/ulikunitz/xz", 8.5},
		{"rules", `rules.Default()`, "", 2},
		{"hilbert", `hilbert.Order(12).Point(1)`, "", 1.6},
		{"history", `history.NewRowWriter("csv", "", nil)`, "", 2.6},
		{"history/sqlite", `sqlite.Open(context.Background(), "", sqlite.Options{})`, "github.com/dustin/go-humanize github.com/google/uuid github.com/remyoudompheng/bigfft golang.org/x/sys modernc.org/libc modernc.org/mathutil modernc.org/memory modernc.org/sqlite zombiezen.com/go/sqlite", 7.8},
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	sums, err := os.ReadFile("go.sum")
	require.NoError(t, err)
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	// The same versions, so that nothing has to be fetched.
	mod = regexp.MustCompile(`(?m)^(module .*|tool .*)$`).ReplaceAll(mod, nil)
	path := strings.TrimSuffix(module, "/")
	mod = append([]byte("module example.com/importer\n\nreplace "+path+" => "+here+"\n\nrequire "+path+" v0.0.0\n"), mod...)
	packages := public(t)
	for _, tt := range tests {
		packages = slices.DeleteFunc(packages, func(p string) bool { return p == tt.pkg })
		t.Run(tt.pkg, func(t *testing.T) {
			dir := t.TempDir()
			imports := ""
			if strings.Contains(tt.use, "context.") {
				imports = "import \"context\"\n"
			}
			source := "package main\n\n" + imports + "import \"" + module + tt.pkg + "\"\n\nfunc main() { " + tt.use + " }\n"
			for name, b := range map[string][]byte{"go.mod": mod, "go.sum": sums, "main.go": []byte(source)} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			}
			goTool := func(args ...string) string {
				cmd := exec.Command("go", args...)
				cmd.Dir = dir
				cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=-mod=mod")
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, string(out))
				return string(out)
			}
			modules := strings.Fields(goTool("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "."))
			slices.Sort(modules)
			modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == path || m == "example.com/importer" })
			assert.Equal(t, tt.modules, strings.Join(modules, " "))
			goTool("build", "-trimpath", "-ldflags=-s -w", "-o", "program", ".")
			info, err := os.Stat(filepath.Join(dir, "program"))
			require.NoError(t, err)
			mb := float64(info.Size()) / 1e6
			t.Logf("%.1f MB", mb)
			assert.Less(t, mb, tt.mb, "MB")
			assert.Greater(t, mb, tt.mb*0.7, "the bar can be lowered")
		})
	}
	assert.Empty(t, packages, "packages without a program here")
}

package connmap_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/numbers"
)

// constants evaluates expressions of the constants of a package's source.
type constants struct {
	fset *token.FileSet
	pkg  *types.Package
}

// noImports has nothing of other packages but the units of time: what else constants are made
// of they say themselves.
type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	if path == "time" {
		named := types.NewNamed(types.NewTypeName(token.NoPos, p, "Duration", nil), types.Typ[types.Int64], nil)
		p.Scope().Insert(named.Obj())
		for name, n := range map[string]int64{"Millisecond": 1e6, "Second": 1e9, "Minute": 60e9, "Hour": 3600e9} {
			p.Scope().Insert(types.NewConst(token.NoPos, p, name, named, constant.MakeInt64(n)))
		}
	}
	p.MarkComplete()
	return p, nil
}

func constantsOf(t *testing.T, dir string) constants {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH = "linux", "amd64"
	info, err := ctx.ImportDir(dir, 0)
	require.NoError(t, err)
	c := constants{fset: token.NewFileSet()}
	var files []*ast.File
	for _, name := range info.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	// All that needs other packages is an error, which does not matter here.
	config := types.Config{Importer: noImports{}, Error: func(error) {}, IgnoreFuncBodies: true}
	c.pkg, _ = config.Check(dir, c.fset, files, nil)
	return c
}

func (c constants) value(t *testing.T, expr string) int64 {
	t.Helper()
	v, err := types.Eval(c.fset, c.pkg, token.NoPos, expr)
	require.NoError(t, err, expr)
	require.NotNil(t, v.Value, "%s is not constant", expr)
	n, exact := constant.Int64Val(constant.ToInt(v.Value))
	require.True(t, exact, "%s is %v", expr, v.Value)
	return n
}

// text is a file with its lines joined, and those of comments without what marks them.
func text(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	s := string(b)
	if strings.HasSuffix(name, ".go") {
		s = regexp.MustCompile(`(?m)^\s*//`).ReplaceAllString(s, "")
	}
	return strings.Join(strings.Fields(s), " ")
}

// A limit is a sentence that has numbers, each of them an expression of the constants of a
// package, in braces: {dir: expression}, or {dir: expression | unit}.
type limit struct{ file, sentence string }

var limits = []limit{
	{"README.md", "when places or networks are older than {examples/mapserver/internal/mapview: maxTableAge/(24*3600*1000000000)} days."},
	{"README.md", "Of one UDP socket {conntrack: maxFlows/2} peers are followed at a time, of all {conntrack: maxFlows}:"},
	{"README.md", "Of more than {conntrack/internal/names: maxLearnt/2} addresses with names the oldest give way;"},
	{"README.md", "it keeps the close events of {conntrack/feed/frame: defaultMaxCloses} connections"},
	{"README.md", "it reports what it can in half a second"},
	{"README.md", "that unpacks to more than {internal/unpack: MaxRatio} times its size, is an error."},
	{"README.md", "gives up below {cmd/connmap-data: minRate/1024} kB a second"},
	{"README.md", "a question may use {history/sqlite: maxSpill>>20} MB on the disk. A table may take a minute, CSV and JSON ten;"},
	{"README.md", "of one with fewer than {examples/mapserver: safePassword} characters the server warns."},
	{"history/sqlite/console.go", "with at most {history/sqlite: maxSpill>>20} MB in temporary files"},
	{"asn/autnum.go", "A dump may have {asn: maxDump} bytes of content; its records, of which there may be {internal/ranges: Max}, may have {asn: maxAutNums} bytes and each {asn: maxAutNum}."},
	{"asn/autnum.go", "a longer record is cut, as is a line of more than {asn: maxLine} bytes;"},
	{"asn/builder.go", "a name longer than {asn: maxName} bytes, all names than {asn: maxNames}, or if there are more than {internal/ranges: Max} rows or {internal/ranges: MaxRecords-1} different ASes."},
	{"asn/delegations.go", "more than {asn: maxDelegations} bytes of content, {internal/ranges: Max} records or {asn: maxRegistries} registries."},
	{"asn/open.go", "A text may have {internal/layout: Max} bytes, a binary file {internal/layout: maxDB}, all together {internal/ranges: Max} rows, and what is compressed {internal/unpack: MaxRatio} times its size beyond {internal/unpack: Free>>20} MiB."},
	{"asn/orgs.go", "It may have {asn: maxOrgs} bytes of content."},
	{"geoip/builder.go", "names of cities to {geoip: maxCity} bytes. There may be {internal/ranges: Max} rows, {internal/ranges: MaxRecords-1} places and {geoip: maxNames} bytes of names;"},
	{"geoip/place.go", "km around the point in which the address is likely, at most {geoip: maxRadius}; 0: the table does not say, or more"},
	{"geoip/open.go", "A text may have {internal/layout: Max} bytes, a binary file {internal/layout: maxDB}, all together {internal/ranges: Max} rows, and what is compressed {internal/unpack: MaxRatio} times its size beyond {internal/unpack: Free>>20} MiB."},
	{"internal/ranges/ranges.go", `errors.New("more than {internal/ranges: Max} ranges,`},
	{"cmd/connmap-data/main.go", "less than {cmd/connmap-data: minRate/1024} kB a second, or takes more than two hours,"},
	{"conntrack/doc.go", "At most {conntrack/internal/names: maxLearnt} addresses have a name at a time,"},
	{"conntrack/doc.go", "of one unconnected socket {conntrack: maxFlows/2} flows are followed at a time, of all {conntrack: maxFlows}."},
	{"docs/capture.md", "Up to {conntrack: maxNamespaces}, with {conntrack: maxTunnels} tunnels, are read, and the log says if there are more; of one tunnel {conntrack: maxRemotes} peers are reported."},
	{"docs/protocol.md", "salt pin, {conntrack/feed: passwordRounds} rounds)"},
	{"docs/protocol.md", "have at most {conntrack/feed/frame: MaxGreeting} bytes, other frames {conntrack/feed/frame: MaxSize} bytes."},
	{"docs/protocol.md", "agent, every {conntrack/feed: heartbeat/1000000000} s"},
	{"docs/protocol.md", "A side that receives nothing for {conntrack/feed: silence/1000000000} s closes the connection."},
	{"docs/protocol.md", "Texts have at most {conntrack/feed/frame: MaxText} bytes."},
	{"docs/protocol.md", "An agent keeps {conntrack/feed/frame: defaultMaxCloses} close events in memory. With a spool it keeps {conntrack/feed/frame: defaultMaxSpool>>20} MiB more on disk"},
	{"docs/protocol.md", "A server takes {conntrack/feed: defaultMaxAgents} agents with {conntrack/feed: defaultMaxConns} connections each and {conntrack/feed: defaultMaxTotal} together."},
	{"docs/protocol.md", "more than {conntrack/feed: framesPerSecond} frames a second, after a burst of {conntrack/feed: framesBurst}, has to wait."},
	{"docs/protocol.md", "Joining may take {conntrack/feed: handshakeTime/1000000000} s. At most {conntrack/feed: maxJoining} connections at a time may be joining, and {conntrack/feed: maxJoining} more"},
	{"docs/protocol.md", "After {conntrack/feed: maxGuesses} wrong tokens or passwords within a minute a source needs a known key. After {conntrack/feed: slowGuesses} of all sources"},
	{"docs/protocol.md", "may try {conntrack/feed: passwordsPerSecond} passwords a second, after a burst of {conntrack/feed: passwordsBurst}."},
	{"docs/protocol.md", "but at least {conntrack/feed: minNewKeys}."},
	{"docs/protocol.md", "Of those that wait it keeps {conntrack/feed: maxUnapproved}."},
	{"docs/protocol.md", "Texts are cut to {conntrack/feed/frame: MaxText} bytes"},
	{"conntrack/feed/client.go", "folder for {conntrack/feed/frame: defaultMaxSpool>>20} MiB of close events"},
	{"conntrack/feed/frame/table.go", "close events in memory; zero: {conntrack/feed/frame: defaultMaxCloses}"},
	{"conntrack/feed/frame/table.go", "bytes of the spool; zero: {conntrack/feed/frame: defaultMaxSpool>>20} MiB"},
	{"conntrack/feed/server.go", "at the same time; zero: {conntrack/feed: defaultMaxAgents}"},
	{"conntrack/feed/server.go", "of an agent; zero: {conntrack/feed: defaultMaxConns}"},
	{"conntrack/feed/server.go", "of about 1 KB each; zero: {conntrack/feed: defaultMaxTotal}"},
	{"hilbert/hilbert.go", "a power of two up to {hilbert: 1<<finest}."},
	{"history/question.go", "zero: {history/sqlite: defaultMaxRows}, negative: no limit"},
	{"history/sqlite/selection.go", "Those of a circle or a prefix are {history/sqlite: maxSelected} at most"},
	{"history/sqlite/writer.go", "if {history/sqlite: queueLen} are waiting or the Writer is closed"},
	{"rules/parse.go", "for each of the first {rules: maxErrors} bad lines and the number of the others."},
	{"rules/parse.go", "or has more than {rules: maxSize>>20} MiB."},
	{"rules/parse.go", "the first {rules: maxErrors}, in the order of the file"},
}

// kernelLimits are those of the programs in the kernel, whose source is C.
var kernelLimits = map[string]string{
	"only if one socket opens more than 32,768 between two passes": "#define MOST_NEW (1 << 15)",
	"the kernel's table of 262,144 has room for":                   "__uint(max_entries, 1 << 18);",
}

// TestLimits: what is promised of limits is what the constants say.
func TestLimits(t *testing.T) {
	packages := make(map[string]constants)
	claimed := make(map[string]int) // numbers with commas, by file and number
	for _, l := range limits {
		sentence := regexp.MustCompile(`\{([^:{}]+): ([^{}]+)\}`).ReplaceAllStringFunc(l.sentence, func(s string) string {
			dir, expr, _ := strings.Cut(strings.Trim(s, "{}"), ": ")
			if packages[dir].pkg == nil {
				packages[dir] = constantsOf(t, dir)
			}
			return numbers.Thousands(packages[dir].value(t, expr))
		})
		assert.Contains(t, text(t, l.file), sentence, "%s says something else", l.file)
		for _, n := range largeNumbers(sentence) {
			claimed[l.file+" "+n]++
		}
	}
	source := text(t, "conntrack/internal/bpf/connmap.bpf.c")
	for sentence, line := range kernelLimits {
		assert.Contains(t, text(t, "docs/capture.md"), sentence)
		assert.Contains(t, source, line)
		for _, n := range largeNumbers(sentence) {
			claimed["docs/capture.md "+n]++
		}
	}
	// Numbers that are no limits but measured, or approximate.
	for _, n := range []string{"docs/capture.md 6,000", "README.md 300,000"} {
		claimed[n]++
	}

	// Nobody adds a large number to what users read without a line above.
	for _, p := range append(public(t), ".") {
		files, err := filepath.Glob(filepath.Join(p, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
			for _, doc := range docs(f) {
				for _, n := range largeNumbers(doc) {
					assert.NotZero(t, claimed[name+" "+n], "%s: %s is in no line of limits", name, n)
				}
			}
		}
	}
	for _, name := range []string{"docs/capture.md", "docs/protocol.md"} {
		for _, n := range largeNumbers(text(t, name)) {
			assert.NotZero(t, claimed[name+" "+n], "%s: %s is in no line of limits", name, n)
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, today, ok := strings.Cut(string(readme), "## Limits of today")
	require.True(t, ok)
	today, _, _ = strings.Cut(today, "\n## ")
	for _, n := range largeNumbers(today) {
		assert.NotZero(t, claimed["README.md "+n], "README.md: %s is in no line of limits", n)
	}
}

var largeNumber = regexp.MustCompile(`(?:^|[^\d,])(\d{1,3}(?:,\d{3})+)(?:[^\d,]|,\D|$)`)

// largeNumbers are those of a text that are written with commas.
func largeNumbers(s string) (all []string) {
	for _, m := range largeNumber.FindAllStringSubmatch(s, -1) {
		all = append(all, m[1])
	}
	return all
}

// docs are the comments that go doc shows: of the package and of what it exports.
func docs(f *ast.File) []string {
	all := []string{f.Doc.Text()}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() {
				all = append(all, d.Doc.Text())
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if !s.Name.IsExported() {
						continue
					}
					all = append(all, d.Doc.Text(), s.Doc.Text(), s.Comment.Text())
					if st, ok := s.Type.(*ast.StructType); ok {
						for _, field := range st.Fields.List {
							all = append(all, field.Doc.Text(), field.Comment.Text())
						}
					}
				case *ast.ValueSpec:
					if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
						all = append(all, d.Doc.Text(), s.Doc.Text(), s.Comment.Text())
					}
				}
			}
		}
	}
	return all
}

// TestThousands: the test above reads numbers as it writes them.
func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1 << 20: "1,048,576"} {
		assert.Equal(t, want, numbers.Thousands(n), fmt.Sprint(n))
	}
	assert.Equal(t, []string{"8,192", "16,384", "1,048,576"}, largeNumbers("of one 8,192, of all (16,384) or 1,048,576. 255,0,0 and 443,47,129"))
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/adrg/xdg"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/asn/whois"
)

// folder makes a data folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

var whole = map[string]string{
	"delegated-arin-extended-latest":    "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\narin|US|asn|64496|2|20000103|assigned|A\n",
	"delegated-ripencc-extended-latest": "ripencc|DE|ipv6|2001:4200::|32|20000102|allocated|B\n",
	"20260101.as-org2info.txt":          "# format:aut|changed|aut_name|org_id|opaque_id|source\n64496||EX|EX-ARIN||ARIN\n# format:org_id|changed|org_name|country|source\nEX-ARIN||Example|US|ARIN\n",
	"ip2asn-combined.tsv.gz":            "8.0.0.0\t8.0.0.255\t64496\tUS\tEXAMPLE\n",
	"dbip-city-lite.csv.gz":             "8.0.0.0,8.0.0.255,OC,AU,Queensland,\"South Brisbane\",-27.4767,153.017\n",
	"ripe.db.aut-num.gz":                "aut-num: AS64496\nas-name: EX\n",

	"delegated-arin-extended-latest.meta": "{}",
	"ripe.db.aut-num.gz.part":             "junk",
	"20260101.as-org2info.txt.meta.new":   "junk",
}

// ask runs the command with its own folders.
func ask(t *testing.T, data, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"-data", data, "-cache", filepath.Join(t.TempDir(), "cache")}, args...)
	err = run(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), err
}

func TestText(t *testing.T) {
	out, errs, err := ask(t, folder(t, whole), "", "8.0.0.1", "10.0.0.1", "AS64496", "2001:4200::1")
	require.NoError(t, err)
	assert.Empty(t, errs)
	for _, want := range []string{
		"8.0.0.1\n  1 Delegation    8.0.0.0-8.0.0.255 allocated 2000-01-02, arin, US, holder A  [delegated-arin-extended-latest, ",
		"  2 Organisation  Example, US, EX-ARIN  [20260101.as-org2info.txt, ",
		"  3 AS numbers    AS64496-AS64497  [delegated-arin-extended-latest, ",
		"  4 Place         -27.4767 153.0170, South Brisbane, AU, city level  [dbip-city-lite.csv.gz, ",
		"  5 Announced by  AS64496 EXAMPLE  [ip2asn-combined.tsv.gz, ",
		"  6 aut-num       as follows  [ripe.db.aut-num.gz, ",
		"\n\naut-num: AS64496\nas-name: EX\n\n10.0.0.1: private use (RFC 1918)\n\nAS64496",
		"2001:4200::1\n  1 Delegation    2001:4200::-2001:4200:ffff:ffff:ffff:ffff:ffff:ffff allocated 2000-01-02, ripencc, DE, holder B",
	} {
		assert.Contains(t, out, want)
	}
}

func TestBulkJSON(t *testing.T) {
	out, errs, err := ask(t, folder(t, whole), "8.0.0.1\n\n# comment\nx\n AS64496 \r\n", "-json")
	assert.EqualError(t, err, "1 lines had no answer, or an incomplete one")
	assert.Equal(t, "ip2asn: line 4: expected an address such as 192.0.2.1 or 2001:db8::1, or AS64496, found \"x\"\n", errs)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		var o struct {
			ASN    uint32
			Org    string
			ASNs   []string
			AutNum string `json:"aut_num"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &o))
		assert.EqualValues(t, 64496, o.ASN)
		assert.Equal(t, "Example", o.Org)
		assert.Equal(t, []string{"AS64496-AS64497"}, o.ASNs)
		assert.Equal(t, "aut-num: AS64496\nas-name: EX\n", o.AutNum)
	}
}

func TestBulkLines(t *testing.T) {
	long := strings.Repeat("8", 3*batchSize)
	out, errs, err := ask(t, folder(t, whole), "8.0.0.1\n"+long+"\n\x1b[2J\n10.0.0.1\r\n2001:4200::1")
	assert.EqualError(t, err, "2 lines had no answer, or an incomplete one")
	assert.Equal(t, "8.0.0.1\t64496\tEXAMPLE\tUS\tarin\t8.0.0.0-8.0.0.255\tallocated\tExample\n"+
		"10.0.0.1\t\t\t\t\t\t\tprivate use (RFC 1918)\n", out[:strings.Index(out, "2001:")])
	assert.Contains(t, out, "2001:4200::1\t")
	assert.Contains(t, errs, "ip2asn: line 2: expected an address such as")
	assert.Contains(t, errs, "ip2asn: line 3: expected an address such as 192.0.2.1 or 2001:db8::1, or AS64496, found \"\\x1b[2J\"\n")
	assert.Less(t, len(errs), 1000)
}

// TestBulkOrder compares many batches, of any size, with answers one by one.
func TestBulkOrder(t *testing.T) {
	db, err := asn.Open(filepath.Join(folder(t, whole), "ip2asn-combined.tsv.gz"))
	require.NoError(t, err)
	sources := &whois.Sources{Networks: []*asn.DB{db}}
	var in, want, wantErrs bytes.Buffer
	for i := range 50_000 {
		fmt.Fprintf(&in, "8.0.%d.%d\n", i>>8, i&255)
		r, err := sources.Ask(fmt.Sprintf("8.0.%d.%d", i>>8, i&255))
		require.NoError(t, err)
		require.NoError(t, r.WriteLine(&want))
		if i%1000 == 0 {
			fmt.Fprintf(&in, "x\n")
			fmt.Fprintf(&wantErrs, "ip2asn: line %d: expected an address such as 192.0.2.1 or 2001:db8::1, or AS64496, found \"x\"\n", i+i/1000+2)
		}
	}
	for name, stdin := range map[string]io.Reader{
		"whole": bytes.NewReader(in.Bytes()), "half": iotest.HalfReader(bytes.NewReader(in.Bytes())),
		"data with error": iotest.DataErrReader(bytes.NewReader(in.Bytes())),
	} {
		var out, errs bytes.Buffer
		err := bulk(context.Background(), sources, false, stdin, &out, &errs)
		require.EqualError(t, err, "50 lines had no answer, or an incomplete one", name)
		require.Equal(t, want.String(), out.String(), name)
		require.Equal(t, wantErrs.String(), errs.String(), name)
	}
	var out bytes.Buffer
	err = bulk(context.Background(), sources, false, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("8.0.0.1\n"))), &out, io.Discard)
	assert.ErrorIs(t, err, iotest.ErrTimeout)
	assert.ErrorIs(t, bulk(context.Background(), sources, true, strings.NewReader("8.0.0.1\n"), full{}, io.Discard), os.ErrClosed)
}

// TestUnreadableRecord: if a record cannot be read the rest is answered.
func TestUnreadableRecord(t *testing.T) {
	dir := folder(t, whole)
	db, err := asn.Open(filepath.Join(dir, "ip2asn-combined.tsv.gz"))
	require.NoError(t, err)
	a, err := asn.OpenAutNums("", filepath.Join(dir, "ripe.db.aut-num.gz"))
	require.NoError(t, err)
	require.NoError(t, a.Close())
	var out, errs bytes.Buffer
	err = bulk(context.Background(), &whois.Sources{Networks: []*asn.DB{db}, AutNums: a}, true, strings.NewReader("8.0.0.1\n"), &out, &errs)
	assert.EqualError(t, err, "1 lines had no answer, or an incomplete one")
	assert.Contains(t, errs.String(), "ip2asn: line 1: aut-num of AS64496: ")
	assert.Contains(t, out.String(), `"asn_org":"EXAMPLE"`)
}

// TestInterrupt: an answer comes at once and not with the end of the input, for
// which nobody waits after an interrupt.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in, typing, err := os.Pipe()
	require.NoError(t, err)
	defer typing.Close()
	answers, out, err := os.Pipe()
	require.NoError(t, err)
	defer answers.Close()
	done := make(chan error)
	go func() { done <- bulk(ctx, &whois.Sources{}, true, in, out, io.Discard) }()
	_, err = typing.WriteString("10.0.0.1\n10.")
	require.NoError(t, err)
	line, err := bufio.NewReader(answers).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, `"address":"10.0.0.1"`)
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	out.Close()
}

// TestContent has files whose names say nothing.
func TestContent(t *testing.T) {
	files := map[string]string{}
	for name, text := range whole {
		if !strings.HasSuffix(name, ".meta") && !strings.HasSuffix(name, ".part") && !strings.HasSuffix(name, ".new") {
			files[fmt.Sprint("file", len(files))] = text
		}
	}
	files["v6"] = "network,autonomous_system_number,autonomous_system_organization\n2001:4200::/32,64497,Six\n"
	dir := folder(t, files)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "history.sqlite"), []byte("SQLite format 3\x00"), 0o600))
	out, errs, err := ask(t, dir, "", "-json", "8.0.0.1", "2001:4200::1")
	require.NoError(t, err)
	assert.Empty(t, errs)
	for _, want := range []string{
		`"registry":"arin"`, `"org":"Example"`, `"city":"South Brisbane"`, `"asn_org":"EXAMPLE"`, `"aut_num":"aut-num: AS64496`,
		`"registry":"ripencc"`, `"asn_org":"Six"`,
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, strings.SplitAfter(out, "\n")[0], "missing")
}

// TestHistoryInDataFolder: the files of a history, which servers keep there, are no tables.
func TestHistoryInDataFolder(t *testing.T) {
	dir := t.TempDir()
	for _, suffix := range []string{"", ".lock", ".reserve", "-wal", "-shm", ".corrupt-2026-01-02T03-04-05Z", ".before-migration-2026-01-02T03-04-05Z"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "history.sqlite"+suffix), make([]byte, 1<<12), 0o600))
	}
	out, errs, err := ask(t, dir, "", "8.0.0.1")
	require.NoError(t, err)
	assert.Empty(t, errs)
	assert.Contains(t, out, "8.0.0.1")
}

// BenchmarkBulk answers a million addresses with all real data there are, as the
// command does; files are opened anew each time.
func BenchmarkBulk(b *testing.B) {
	root, err := filepath.Abs("../../../shared/data")
	require.NoError(b, err)
	var args []string
	for flag, names := range map[string][]string{
		"-rir": {"rir/delegated-afrinic-extended.gz", "rir/delegated-apnic-extended.gz", "rir/delegated-arin-extended.gz", "rir/delegated-ripencc-extended.gz"},
		"-asn": {"asn/GeoLite2-ASN-Blocks-IPv4.csv.gz", "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz"}, "-orgs": {"org/SYNTHETIC.as-org2info.txt.gz"},
		"-autnum": {"rpsl/lacnic.test", "rpsl/arin_asn_net_only.txt"},
	} {
		for _, name := range names {
			file := filepath.Join(root, name)
			if _, err := os.Stat(file); err != nil {
				b.Skip("no test data: ", err)
			}
			args = append(args, flag, file)
		}
	}
	args = append(args, "-cache", b.TempDir(), "-data", b.TempDir())
	r := rand.New(rand.NewPCG(1, 2))
	var in bytes.Buffer
	for range 1_000_000 {
		x := r.Uint32()
		fmt.Fprintf(&in, "%d.%d.%d.%d\n", x>>24, x>>16&255, x>>8&255, x&255)
	}
	for name, more := range map[string][]string{"lines": nil, "json": {"-json"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, run(context.Background(), append(args, more...), bytes.NewReader(in.Bytes()), io.Discard, io.Discard))
			}
		})
	}
}

func TestEmbedded(t *testing.T) {
	_, _, err := ask(t, filepath.Join(t.TempDir(), "none"), "", "1.1.1.1")
	assert.ErrorIs(t, err, os.ErrNotExist, "a folder that is named must be there")

	t.Setenv("XDG_DATA_HOME", filepath.Join(t.TempDir(), "none"))
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(context.Background(), []string{"-cache", t.TempDir(), "1.1.1.1"}, strings.NewReader(""), &stdout, &stderr))
	out, errs := stdout.String(), stderr.String()
	assert.Empty(t, errs)
	assert.Contains(t, out, "  5 Announced by  AS13335 CLOUDFLARENET  [")
	assert.Contains(t, out, "country level  [embedded countries, ")
	assert.Contains(t, out, "  1 Delegation    no file for it is open (one of: the registries' delegated-*-extended files)")
}

// TestDamaged has files in the data folder that cannot be read: the others and the
// embedded tables answer. Of files that are named that is an error.
func TestDamaged(t *testing.T) {
	files := map[string]string{}
	for name := range whole {
		if !strings.Contains(name, ".meta") && !strings.HasSuffix(name, ".part") {
			files[name] = "junk\n"
		}
	}
	files["places.txt"] = "connmap places 1\n1.5\t2.5\t9\n" // of a map server, no table
	files["delegated-arin-extended-latest"] = whole["delegated-arin-extended-latest"]
	dir := folder(t, files)
	out, errs, err := ask(t, dir, "", "8.0.0.1")
	require.NoError(t, err)
	assert.Equal(t, 5, strings.Count(errs, "ip2asn: left out: "), errs)
	assert.Contains(t, out, "8.0.0.0-8.0.0.255 allocated")
	assert.Contains(t, out, "[embedded countries, ")
	for flag, name := range map[string]string{
		"-geo": "dbip-city-lite.csv.gz", "-asn": "ip2asn-combined.tsv.gz", "-orgs": "20260101.as-org2info.txt",
		"-rir": "delegated-ripencc-extended-latest", "-autnum": "ripe.db.aut-num.gz",
	} {
		_, _, err := ask(t, folder(t, nil), "", flag, filepath.Join(dir, name), "8.0.0.1")
		assert.ErrorContains(t, err, name, flag)
	}
}

func TestNamed(t *testing.T) {
	dir := folder(t, whole)
	out, errs, err := ask(t, folder(t, nil), "",
		"-geo", filepath.Join(dir, "dbip-city-lite.csv.gz"), "-asn", filepath.Join(dir, "ip2asn-combined.tsv.gz"),
		"-rir", filepath.Join(dir, "delegated-arin-extended-latest"), "-rir", filepath.Join(dir, "delegated-ripencc-extended-latest"),
		"-orgs", filepath.Join(dir, "20260101.as-org2info.txt"), "-autnum", filepath.Join(dir, "ripe.db.aut-num.gz"), "8.0.0.1")
	require.NoError(t, err)
	assert.Empty(t, errs)
	for _, want := range []string{"South Brisbane", "AS64496 EXAMPLE", "holder A", "EX-ARIN", "as-name: EX"} {
		assert.Contains(t, out, want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestArguments(t *testing.T) {
	dir := folder(t, nil)
	for want, args := range map[string][]string{
		"found \"x\"":                  {"x"},
		"put flags before addresses":   {"192.0.2.1", "-json"},
		"ip2asn -h lists the flags":    {"-x"},
		"found \"192.0.2.0/24\"":       {"192.0.2.0/24"},
		"expected an AS number from 0": {"AS4294967296"},
	} {
		_, _, err := ask(t, dir, "", args...)
		assert.ErrorContains(t, err, want)
	}
	out, errs, err := ask(t, dir, "", "x", "10.0.0.1", "y", "10.0.0.2")
	assert.ErrorContains(t, err, `found "y"`)
	assert.Contains(t, errs, `found "x"`)
	assert.Equal(t, "10.0.0.1: private use (RFC 1918)\n\n10.0.0.2: private use (RFC 1918)\n", out)

	_, usage, err := ask(t, dir, "", "-h")
	assert.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, usage, "without asking a server")
	out, _, err = ask(t, dir, "", "-version")
	require.NoError(t, err)
	assert.Equal(t, "ip2asn development\n", out)

	err = run(context.Background(), []string{"-data", dir, "192.0.2.1"}, strings.NewReader(""), full{}, io.Discard)
	assert.ErrorIs(t, err, os.ErrClosed)
}

// TestVersion: a program says which commit or version it was made of, however it was built.
func TestVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	build := func(args ...string) string {
		binary := filepath.Join(t.TempDir(), "ip2asn")
		out, err := exec.Command("go", append(append([]string{"build", "-o", binary}, args...), ".")...).CombinedOutput()
		if err != nil && strings.Contains(string(out), "VCS status") {
			t.Skip("needs git and a checkout: ", string(out))
		}
		require.NoError(t, err, string(out))
		return binary
	}
	version := func(binary string) string {
		out, err := exec.Command(binary, "-version").Output()
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "ip2asn v1.2.3\n", version(build("-buildvcs=false", "-ldflags=-X main.version=v1.2.3")))
	assert.Equal(t, "ip2asn development\n", version(build("-buildvcs=false")))
	binary := build("-buildvcs=true")
	info, err := buildinfo.ReadFile(binary)
	require.NoError(t, err)
	if info.Main.Version == "(devel)" {
		t.Skip("needs a checkout of git that Go knows, which a worktree is not")
	}
	assert.Regexp(t, `^v\d`, info.Main.Version)
	assert.Equal(t, "ip2asn "+info.Main.Version+"\n", version(binary))
}

// TestCutWhileInUse: if somebody cuts a compiled table, ip2asn reports an error, and does not
// answer from another table.
func TestCutWhileInUse(t *testing.T) {
	var places strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&places, "8.%d.%d.0,8.%d.%d.255,OC,AU,Queensland,Town %d,-27.4767,%d\n", i>>8, i&255, i>>8, i&255, i, i%180)
	}
	data, cache := folder(t, map[string]string{"dbip-city-lite.csv": places.String()}), filepath.Join(t.TempDir(), "cache")
	in, typing, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	answers, out, err := os.Pipe()
	require.NoError(t, err)
	defer answers.Close()
	var errs bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(t.Context(), []string{"-data", data, "-cache", cache, "-json"}, in, out, &errs)
		out.Close()
	}()
	lines := bufio.NewScanner(answers)
	ask := func(addr string) string {
		fmt.Fprintln(typing, addr)
		require.True(t, lines.Scan())
		return lines.Text()
	}
	assert.Contains(t, ask("8.0.1.1"), "Town 1")
	files, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	for _, name := range files {
		require.NoError(t, os.Truncate(name, 100))
	}
	assert.NotContains(t, ask("8.100.1.1"), `"lat"`)
	typing.Close()
	assert.ErrorContains(t, <-done, "1 lines had no answer, or an incomplete one")
	assert.Contains(t, errs.String(), "was truncated while it was in use")
}

// TestExplain: -explain prints what each table says and marks what counts.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	country := write("country.csv", "192.88.99.0,192.88.99.255,AU\n198.51.0.0,198.51.0.255,DE\n")
	city := write("city.csv", "198.51.0.0,198.51.0.255,EU,FR,Somewhere,Paris,48.85,2.35\n")
	feed := write("feed.csv", "# geofeed\n198.51.0.0/26,IT,,Rome,\n")
	asn1 := write("asn1.tsv", "198.51.0.0\t198.51.0.255\t64500\tDE\tFirst\n")
	asn2 := write("asn2.tsv", "198.51.0.0\t198.51.0.255\t64501\tDE\tSecond\n")
	none := t.TempDir()
	ask := func(addr string) string {
		var out, errs strings.Builder
		require.NoError(t, run(t.Context(), []string{"-explain", "-data", none, "-cache", dir + "/cache", "-geo", country, "-geo", city, "-geo", feed, "-asn", asn1, "-asn", asn2, addr}, strings.NewReader(""), &out, &errs))
		return out.String()
	}
	out := ask("198.51.0.200")
	assert.Regexp(t, `\[country.csv, .*\]  .*, DE, country level\n`, out)
	assert.Regexp(t, `\[city.csv, .*\]  48.8500 2.3500, Paris, FR, city level  \(counts\)\n`, out)
	assert.Regexp(t, `\[feed.csv, .*\]  not in this table\n`, out)
	assert.Regexp(t, `\[asn1.tsv, .*\]  AS64500 First  \(counts\)\n`, out)
	assert.Regexp(t, `\[asn2.tsv, .*\]  AS64501 Second\n`, out)
	assert.Equal(t, 2, strings.Count(out, "(counts)"))
	out = ask("198.51.0.1")
	assert.Regexp(t, `\[feed.csv, .*\]  .*, IT, country level  \(counts\)\n`, out)
	assert.Regexp(t, `4 Place .*, IT, country level  \[feed.csv`, out)
	assert.NotContains(t, ask("10.0.0.1"), "(counts)")
	_, err := parse([]string{"-explain"}, io.Discard)
	assert.EqualError(t, err, "-explain is for addresses on the command line, without -json")
}

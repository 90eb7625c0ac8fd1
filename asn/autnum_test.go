package asn

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	rpsl = "#\n# Terms\n\n% header\n" +
		"as-block:       AS64496 - AS64511\ndescr:          block\n\n" +
		"aut-num:        AS64496 # a comment\n" +
		"as-name:        EXAMPLE\n" +
		"descr:          first\n" +
		"                aut-num: AS1\n" +
		"+\n" +
		"# within\n" +
		"source:         RIPE\n" +
		"\n% Tags relating to 'AS64496'\n\n\n" +
		"person:         Example\nremarks:        x\naut-num:        AS2\n\n" +
		"AUT-NUM: as1.1\nsource: RIPE"
	lacnic = "aut-num: 64497\nowner:   FUNDA\xc7\xc3O\nperson:  João\nsource:  LACNIC\n\ninetnum:    192.0.2/24\nowner:      x\n"
	arin   = "ASHandle:       AS64500\r\nOrgID:          EX\r\nASName:         EXAMPLE\r\nASNumber:       64500 - 64505\r\nSource:         ARIN\r\n\r\n" +
		"ASHandle:       AS64502\r\nASNumber:       64502\r\n\r\n" +
		"NetHandle:      NET-192-0-2-0-1\r\nASNumber:      7\r\n\r\n" +
		"ASHandle:       AS9\r\nASName: no number\r\n"
)

func write(t testing.TB, name, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func checkAutNums(t *testing.T, a *AutNums) {
	t.Helper()
	arinRange := strings.ReplaceAll(arin[:strings.Index(arin, "\r\n\r\n")+2], "\r", "")
	for number, want := range map[uint32]string{
		1: "", 2: "", 7: "", 9: "", 64495: "", 64498: "", 64499: "", 64506: "",
		64496: rpsl[strings.Index(rpsl, "aut-num:"):strings.Index(rpsl, "\n% Tags")],
		65537: "AUT-NUM: as1.1\nsource: RIPE\n",
		64497: "aut-num: 64497\nowner:   FUNDAÇÃO\nperson:  João\nsource:  LACNIC\n",
		64500: arinRange,
		64502: "ASHandle:       AS64502\nASNumber:       64502\n",
		64503: arinRange,
		64505: arinRange,
	} {
		got, ok, err := a.Lookup(number)
		require.NoError(t, err)
		assert.Equal(t, want, got.Text, number)
		assert.Equal(t, want != "", ok)
	}
	got, _, _ := a.Lookup(64497)
	assert.Equal(t, "lacnic.db", got.Source.Name)
}

func TestAutNums(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "new", "cache")
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	zw.Write([]byte(rpsl))
	require.NoError(t, zw.Close())
	names := []string{
		write(t, filepath.Join(dir, "ripe.db.gz"), z.String()),
		write(t, filepath.Join(dir, "lacnic.db"), lacnic),
		write(t, filepath.Join(dir, "arin.txt"), arin),
	}
	open := func(cache string) {
		t.Helper()
		a, err := OpenAutNums(cache, names...)
		require.NoError(t, err)
		checkAutNums(t, a)
		require.NoError(t, a.Close())
		_, ok, err := a.Lookup(64496)
		assert.False(t, ok)
		assert.ErrorIs(t, err, os.ErrClosed)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	open("")
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	require.NoError(t, err)
	assert.Empty(t, left, "temporary files are removed")

	open(cache)
	files, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	stat := func() (times []time.Time) {
		for _, f := range files {
			s, err := os.Stat(f)
			require.NoError(t, err)
			times = append(times, s.ModTime())
		}
		return times
	}
	before := stat()
	open(cache)
	assert.Equal(t, before, stat(), "used, not made again")

	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		write(t, f, string(b[:len(b)-1]))
	}
	open(cache) // damaged
	for _, f := range files {
		write(t, f, "")
	}
	open(cache)

	// A changed dump is read again.
	write(t, names[1], strings.Replace(lacnic, "64497", "64499", 1))
	a, err := OpenAutNums(cache, names...)
	require.NoError(t, err)
	defer a.Close()
	_, ok, err := a.Lookup(64497)
	assert.NoError(t, err)
	assert.False(t, ok)
	_, ok, _ = a.Lookup(64499)
	assert.True(t, ok)

	_, err = OpenAutNums("", write(t, filepath.Join(dir, "x"), "person: x\n"))
	assert.EqualError(t, err, "asn: "+filepath.Join(dir, "x")+": has no aut-num records: the file is cut off or of another kind")
	_, err = OpenAutNums("", write(t, filepath.Join(dir, "x.gz"), z.String()[:60]))
	assert.ErrorContains(t, err, "unexpected EOF")
}

// TestAutNumsCut: a record that is too long is cut without holes. A warning says so, also when the
// records come from the folder.
func TestAutNumsCut(t *testing.T) {
	remarks := strings.Repeat("remarks: "+strings.Repeat("x", 990)+"\n", maxAutNum/1000)
	long := strings.Repeat("y", maxLine)
	const why = " cut: longer than 16,777,216 bytes, or with a line longer than 1,048,576"
	for _, tt := range []struct {
		name, dump string
		want       string // warnings
		text       string // that of AS64496 ends with
	}{
		{"whole", "aut-num: AS64496\n" + remarks + "source: X\n", "", "\nsource: X\n"},
		{"record", "aut-num: AS64496\n" + remarks + remarks + "source: X\n\naut-num: AS64497\n", "the record of AS64496 is" + why, "xxx\n"},
		{"line", "aut-num: AS64496\nremarks: " + long + "\nsource: X\n", "the record of AS64496 is" + why, "yyy\nsource: X\n"},
		{"long line", "aut-num: AS64496\nremarks: " + strings.Repeat(long, 18) + "\nsource: X\n", "the record of AS64496 is" + why, "yyy\nsource: X\n"},
		{"line of full length", "aut-num: AS64496\n" + long + "\r\nsource: X\n", "", "yyy\nsource: X\n"},
		{"number behind it", "ASHandle: AS64496\n" + remarks + remarks + "ASNumber: 64496 - 64499\n\naut-num: AS64500\n" + remarks + remarks,
			"the records of AS64496-AS64499 and 1 other are" + why, "xxx\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name := write(t, filepath.Join(dir, "dump"), tt.dump)
			for _, from := range []string{"dump", "folder"} {
				a, err := OpenAutNums(dir, name)
				require.NoError(t, err)
				defer a.Close()
				if tt.want == "" {
					assert.Empty(t, a.Warnings(), from)
				} else {
					assert.Equal(t, []string{name + ": " + tt.want}, a.Warnings(), from)
				}
				got, ok, err := a.Lookup(64496)
				require.NoError(t, err)
				assert.True(t, ok)
				assert.True(t, strings.HasSuffix(got.Text, tt.text), "ends with %q", got.Text[max(0, len(got.Text)-50):])
				assert.LessOrEqual(t, len(got.Text), maxAutNum)
			}
			n, remarks, err := CountAutNums(strings.NewReader(tt.dump))
			require.NoError(t, err)
			assert.EqualValues(t, strings.Count(tt.dump, "aut-num: ")+strings.Count(tt.dump, "ASHandle: "), n)
			assert.Equal(t, tt.want, strings.Join(remarks, ""))
		})
	}
}

func TestAutNumsReal(t *testing.T) {
	a, err := OpenAutNums("", data(t, "rpsl/lacnic.test"), data(t, "rpsl/arin_asn_net_only.txt"))
	require.NoError(t, err)
	defer a.Close()
	got, ok, err := a.Lookup(278)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Contains(t, got.Text, "owner:   FUNDAÇÃO DE AMPARO À PESQUISA")
	got, ok, err = a.Lookup(0)
	require.NoError(t, err)
	require.True(t, ok)
	assert.True(t, strings.HasPrefix(got.Text, "ASHandle:       AS0\n"), got.Text)
}

func FuzzAutNums(f *testing.F) {
	f.Add(rpsl)
	f.Add(lacnic)
	f.Add(arin)
	f.Fuzz(func(t *testing.T, dump string) {
		// Only one at the end of a line is taken away.
		dump = strings.ReplaceAll(dump, "\r", "")
		var texts []string
		require.NoError(t, readAutNums(strings.NewReader(dump), func(first, last uint32, text []byte, _ bool) error {
			require.LessOrEqual(t, first, last)
			require.NotEmpty(t, text)
			require.Equal(t, byte('\n'), text[len(text)-1])
			texts = append(texts, string(text))
			return nil
		}))
		// A record is read as itself.
		n := 0
		require.NoError(t, readAutNums(strings.NewReader(strings.Join(texts, "\n")), func(_, _ uint32, text []byte, _ bool) error {
			require.Equal(t, texts[n], string(text))
			n++
			return nil
		}))
		require.Len(t, texts, n)
	})
}

func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	name := filepath.Join(dir, "dump")
	require.NoError(f, os.WriteFile(name, []byte(rpsl), 0o600))
	a, err := OpenAutNums(dir, name)
	require.NoError(f, err)
	whole, err := io.ReadAll(io.NewSectionReader(a.dumps[0].texts, 0, 1<<20))
	require.NoError(f, err)
	require.NoError(f, a.Close())
	f.Add(whole)
	f.Fuzz(func(t *testing.T, cached []byte) {
		of, err := openFile(name, maxDump)
		require.NoError(t, err)
		defer of.Close()
		index := filepath.Join(t.TempDir(), "index")
		require.NoError(t, os.WriteFile(index, cached, 0o600))
		d := load(t, index, of)
		if d == nil {
			return
		}
		defer d.close()
		a := AutNums{dumps: []dump{*d}}
		for _, e := range d.entries {
			_, _, err := a.Lookup(e.first)
			require.NoError(t, err)
		}
	})
}

func load(t *testing.T, index string, f *file) *dump {
	t.Helper()
	var d dump
	if !d.load(index, f) {
		return nil
	}
	return &d
}

package history

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t testing.TB, format string, columns []Column, rows ...[]any) string {
	var b bytes.Buffer
	w, err := NewRowWriter(format, "number", &b)
	require.NoError(t, err)
	require.NoError(t, w.Begin(columns))
	for _, r := range rows {
		require.NoError(t, w.Row(r))
	}
	require.NoError(t, w.End())
	return b.String()
}

var exported = []Column{{Name: "n", Type: "integer"}, {Name: "text", Type: "text"}, {Name: "real", Type: "real"}}

func TestExport(t *testing.T) {
	rows := [][]any{
		{int64(1), "plain", 0.5},
		{int64(-20), "a \"quoted\", text\nof two lines", math.Inf(1)},
		{nil, "\x1b[2J\u202eevil\xff=1+1", nil},
		{int64(7), strings.Repeat("Ω", 100), 1e21},
	}
	assert.Equal(t, "n,text,real\n1,plain,0.5\n-20,\"a \"\"quoted\"\", text\nof two lines\",+Inf\n,\x1b[2J\u202eevil\xff=1+1,\n7,"+strings.Repeat("Ω", 100)+",1e+21\n",
		write(t, "csv", exported, rows...))
	assert.Equal(t, `{"n":1,"text":"plain","real":0.5}
{"n":-20,"text":"a \"quoted\", text\nof two lines","real":null}
{"n":null,"text":"\u001b[2J\u202eevil\ufffd=1+1","real":null}
{"n":7,"text":"`+strings.Repeat("Ω", 100)+`","real":1e+21}
`, write(t, "json", exported, rows...))
	assert.Equal(t, `  n  text                                                           real
───  ────────────────────────────────────────────────────────────  ─────
  1  plain                                                           0.5
-20  a "quoted", text·of two lines                                  +Inf
     ·[2J·evil·=1+1                                                     
  7  `+strings.Repeat("Ω", 59)+`…  1e+21
`, write(t, "table", exported, rows...))

	blob := []Column{{Name: "b", Type: "blob"}}
	assert.Equal(t, "{\"b\":\"AP8=\"}\n", write(t, "json", blob, []any{[]byte{0, 255}}))
	assert.Equal(t, "{\"\\u009b\":\"\\u009b31m\\u007f\\u202e\"}\n", write(t, "json", []Column{{Name: "\u009b"}}, []any{"\u009b31m\x7f\u202e"}), "no terminal at the end of a pipe obeys it")
	assert.Equal(t, "b\n", write(t, "csv", blob))
	assert.Empty(t, write(t, "json", blob))
	_, err := NewRowWriter("xml", "", nil)
	assert.EqualError(t, err, `history: want the format table, csv, rawcsv or json, found "xml"`)
	for _, format := range []string{"csv", "json", "table"} {
		w, err := NewRowWriter(format, "", broken{})
		require.NoError(t, err)
		require.NoError(t, w.Begin(blob))
		w.Row([]any{"x"})
		assert.ErrorIs(t, w.End(), os.ErrClosed, format)
	}
}

// TestFormulas: in CSV no text is a formula, unless it is wanted as it is. Numbers stay numbers.
func TestFormulas(t *testing.T) {
	columns := []Column{{Name: "=name", Type: "text"}, {Name: "n", Type: "integer"}}
	for text, want := range map[string]string{
		"":                         "",
		"curl":                     "curl",
		"a=1":                      "a=1",
		"'=1":                      "'=1",
		"=HYPERLINK(\"http://x\")": "'=HYPERLINK(\"http://x\")",
		"+1":                       "'+1",
		"-bash":                    "'-bash",
		"@SUM(1)":                  "'@SUM(1)",
		"\t=1":                     "'\t'=1",
		"\rx":                      "'\rx",
		"\n=1":                     "'\n'=1",
		" \u00a0=1":                "' \u00a0=1",
		"\x00=1":                   "'\x00=1",
		"＝1":                       "'＝1",
		"－1":                       "'－1",
		"\ufeff=1":                 "'\ufeff=1",
		"a;=1":                     "a;'=1",
		";=1;b;+2":                 ";'=1;b;'+2",
		"a; @x; y":                 "a;' @x; y",
		"a;\"=1\"":                 "a;'\"=1\"",
		"\"+1":                     "'\"+1",
		"a\n\n=1":                  "a\n\n'=1",
		"a\t-1\r＝1":                "a\t'-1\r'＝1",
		"=1;=2":                    "'=1;'=2",
		"a=1; b=2;c\nd":            "a=1; b=2;c\nd",
	} {
		r := csv.NewReader(strings.NewReader(write(t, "csv", columns, []any{text, int64(-5)})))
		got, err := r.ReadAll()
		require.NoError(t, err)
		assert.Equal(t, [][]string{{"'=name", "n"}, {want, "-5"}}, got)
		r = csv.NewReader(strings.NewReader(write(t, "rawcsv", columns, []any{[]byte(text), -0.5})))
		got, err = r.ReadAll()
		require.NoError(t, err)
		assert.Equal(t, [][]string{{"=name", "n"}, {text, "-0.5"}}, got)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

func FuzzExport(f *testing.F) {
	f.Add("a", "b\"\n", int64(1))
	f.Fuzz(func(t *testing.T, a, b string, n int64) {
		columns := []Column{{Name: a, Type: "text"}, {Name: "n", Type: "integer"}}
		// What the readers of the formats do by themselves.
		r := csv.NewReader(strings.NewReader(write(t, "rawcsv", columns, []any{b, n})))
		got, err := r.ReadAll()
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Equal(t, strings.ReplaceAll(b, "\r\n", "\n"), got[1][0])
		got, err = csv.NewReader(strings.NewReader(write(t, "csv", columns, []any{b, n}))).ReadAll()
		require.NoError(t, err)
		for _, field := range []string{got[0][0], got[1][0]} {
			require.NotRegexp(t, `^[\s\x00-\x1f\x7f-\x9f]*[=+@-]`, field)
			// As those read it who separate by semicolons, and whom no quote in the midst stops.
			for _, part := range strings.FieldsFunc(field, func(r rune) bool { return strings.ContainsRune(";\t\r\n", r) }) {
				require.NotRegexp(t, `^"?\s*[=+@-]`, strings.TrimPrefix(part, "\""))
			}
		}
		var o map[string]any
		require.NoError(t, json.Unmarshal([]byte(write(t, "json", columns, []any{b, n})), &o))
		for _, c := range write(t, "table", columns, []any{b, n}) {
			require.True(t, c == '\n' || c >= ' ' && c != 0x7f && (c < 0x80 || c > 0x9f))
		}
	})
}

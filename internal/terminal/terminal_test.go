package terminal

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMask(t *testing.T) {
	assert.Equal(t, "a\uFFFD[2Jb\uFFFD\uFFFD", Mask("a\x1b[2Jb\n\u202e", false))
	assert.Equal(t, "a\n\tb", Mask("a\n\tb", true))
	assert.Equal(t, "\uFFFD\uFFFD31m\uFFFD", Mask("\r\u009b31m\xff", true))
	long := strings.Repeat("é", 100)
	assert.Equal(t, long, Mask(long, true))
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"plain":                             "plain",
		"\x1b]0;title\x07x":                 "]0;titlex",
		"\u202eright\u200b\ufe0f\U000e0041": "right",
		"é\xff":                             "é",
		strings.Repeat("é", 300):            strings.Repeat("é", Reply/2),
		strings.Repeat("x", 199) + "é":      strings.Repeat("x", 199),
	} {
		assert.Equal(t, want, Clean(in, Reply), "%q", in)
	}
}

// FuzzEscapeJSON: a text reads as before, and nothing of it reaches a terminal.
func FuzzEscapeJSON(f *testing.F) {
	f.Add("plain \"é\" 世界")
	f.Add("\x1b]52;c;aGk=\x07\u009b31m\u202e\U000e0001\x7f\u2028\xff\ufffd\u2800")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(map[string]string{s: s})
		require.NoError(t, err)
		got := EscapeJSON([]byte("x"), text)[1:]
		if i := strings.IndexFunc(string(got), Harmful); i >= 0 {
			t.Fatalf("%q has %q", got, got[i:])
		}
		var want, read map[string]string
		require.NoError(t, json.Unmarshal(text, &want))
		require.NoError(t, json.Unmarshal(got, &read), string(got))
		require.Equal(t, want, read)
	})
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xffé", 3)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 0), 300)
		got := Clean(s, most)
		if len(got) > most || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Fatalf("%q of %d becomes %q", s, most, got)
		}
		if Clean(got, most) != got {
			t.Fatalf("cleaning %q again changes it", got)
		}
	})
}

// FuzzWriter: however a text is cut, it comes out as if it had been written at once.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("é\x1b[2J\n\u202e世界\xff"), uint8(1))
	f.Add([]byte("\xf0\x9f\x98\x80x"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var whole, parts bytes.Buffer
		w := &Writer{W: &whole}
		n, err := w.Write(text)
		require.NoError(t, err)
		require.Len(t, text, n)
		p := &Writer{W: &parts}
		for rest := text; len(rest) > 0; {
			k := min(int(size)%5+1, len(rest))
			_, err := p.Write(rest[:k])
			require.NoError(t, err)
			rest = rest[k:]
		}
		require.Equal(t, whole.String(), parts.String())
		require.Equal(t, w.part, p.part)
		for _, r := range whole.String() {
			require.True(t, r == '\n' || r == '\t' || r == utf8.RuneError || !Harmful(r), "%q", whole.String())
		}
	})
}

func TestIs(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, Is(null))
	assert.False(t, Is(&bytes.Buffer{}))
	assert.True(t, Output(null) == any(null))
}

package history

import (
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func seqOf(marks []Mark, last error) iter.Seq2[Mark, error] {
	return func(yield func(Mark, error) bool) {
		for _, m := range marks {
			if !yield(m, nil) {
				return
			}
		}
		if last != nil {
			yield(Mark{}, last)
		}
	}
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "places.txt")
	marks := []Mark{{52.52, 13.405, 7}, {-90, 180, 1}, {0, -0.1234567890123, 1 << 40}}
	require.NoError(t, SaveMarks(name, seqOf(marks, nil)))
	got, err := LoadMarks(name)
	require.NoError(t, err)
	assert.Equal(t, marks, got)
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, "connmap places 1\n52.52\t13.405\t7\n-90\t180\t1\n0\t-0.1234567890123\t1099511627776\n", string(text))

	// What is there stays if the new one cannot be written whole.
	failure := errors.New("failure")
	assert.ErrorIs(t, SaveMarks(name, seqOf(marks[:1], failure)), failure)
	assert.Error(t, SaveMarks(filepath.Join(dir, "missing", "x"), seqOf(marks, nil)))
	got, err = LoadMarks(name)
	require.NoError(t, err)
	assert.Equal(t, marks, got)
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	assert.Equal(t, []string{name}, left)
}

func TestLoadMarksRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "the first line should be \"connmap places 1\"",
		"connmap places 2\n":            "the first line should be",
		marksHeader + "\n1\t2\n":        "line 2: want latitude, longitude and count with tabs between, found 2 fields",
		marksHeader + "\n#\n\n91\t2\t3": "line 4: want a latitude from -90 to 90",
		marksHeader + "\nNaN\t2\t3":     "line 2: want a latitude",
		marksHeader + "\n1\t2\t0":       "line 2: want a positive count, found \"0\"",
		marksHeader + "\n1\t2\tx\x1b[":  "found \"x\\x1b[\"",
		marksHeader + "\n" + strings.Repeat("1", 1<<17): "too long",
	} {
		name := filepath.Join(t.TempDir(), "x")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		got, err := LoadMarks(name)
		assert.Nil(t, got)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "history: "+name+": ")
	}
	_, err := LoadMarks(filepath.Join(t.TempDir(), "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzReadMarks(f *testing.F) {
	f.Add(marksHeader + "\n1\t2\t3\n")
	f.Add(marksHeader + "\r\n# x\r\n1e1\t-2\t3\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		marks, err := readMarks(strings.NewReader(text))
		if err != nil {
			return
		}
		name := filepath.Join(t.TempDir(), "x")
		require.NoError(t, SaveMarks(name, seqOf(marks, nil)))
		again, err := LoadMarks(name)
		require.NoError(t, err)
		require.Equal(t, marks, again)
	})
}

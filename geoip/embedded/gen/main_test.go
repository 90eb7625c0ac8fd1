package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/geoip/embedded"
)

func TestUpToDate(t *testing.T) {
	const list = "/usr/share/tor/geoip"
	_, date, err := readRanges(list, minRows4)
	if err != nil {
		t.Skip("needs Debian's tor-geoipdb: ", err)
	}
	if !date.Equal(embedded.DB().Info().Date) {
		t.Skip(list, " is not what the table was made of")
	}
	name := filepath.Join(t.TempDir(), "table.bin")
	require.NoError(t, run([]string{"-table", name}, io.Discard))
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	want, err := os.ReadFile("../table.bin")
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "run go generate")
}

func TestRefuses(t *testing.T) {
	const head = "# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n"
	for _, tt := range []struct{ name, data, err string }{
		{"cut short", head + "16777216,16777471,AU\n", "only 1 rows"},
		{"cut in line", head + "16777216,16777471,AU\n167772", `line 3: "167772" is not first,last,country`},
		{"address", head + "4294967296,4294967297,AU\n", "line 2: "},
		{"date", "# Generated: today\n", "line 1: "},
		{"no date", "16777216,16777471,AU\n", "no line says when it was generated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "geoip"), filepath.Join(dir, "table.bin")
			require.NoError(t, os.WriteFile(in, []byte(tt.data), 0o600))
			err := run([]string{"-geoip", in, "-table", out}, io.Discard)
			require.ErrorContains(t, err, in+": ")
			assert.ErrorContains(t, err, tt.err)
			assert.NoFileExists(t, out)
		})
	}
	assert.EqualError(t, run([]string{"-cities", "x"}, io.Discard), "-cities and -centroids go together")
}

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
)

// TestReadmeListsAllKeys compares the table of keys with the code.
func TestReadmeListsAllKeys(t *testing.T) {
	const begin, end = "<!-- keys -->\n", "<!-- end of keys -->\n"
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(b), begin)
	require.True(t, ok)
	table, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := "| key | |\n|---|---|\n"
	for _, k := range mapview.Bindings {
		if k.What != "" {
			want += "| " + k.Keys + " | " + k.What + " |\n"
		}
	}
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(before+begin+want+end+after), 0o644))
		return
	}
	assert.Equal(t, want, table, "go test -run Readme -update writes it anew")
}

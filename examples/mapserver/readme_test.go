package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/feed"
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

// TestReadmePort: the port that README says to open is the one at which a server listens
// and to which an agent goes that is given no other.
func TestReadmePort(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	assert.Contains(t, strings.ReplaceAll(string(b), "\n", " "), fmt.Sprintf("TCP port %d of the server must be open to it", feed.DefaultPort))
	cfg, err := parse(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf(":%d", feed.DefaultPort), cfg.listen)
}

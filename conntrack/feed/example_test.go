package feed_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
)

// A printer is a Handler. A map server would make a table of what it receives.
type printer struct{ full chan string }

func (p printer) Join(a feed.Agent) { fmt.Println(a.Name, "joins") }
func (p printer) Full(a feed.Agent, conns []conntrack.Conn) {
	select {
	case p.full <- fmt.Sprint(a.Name, " has connections: ", len(conns) > 0):
	default:
	}
}
func (p printer) Delta(feed.Agent, []conntrack.Event) {}
func (p printer) Leave(a feed.Agent)                  {}

// A server, and an agent that reports to it.
func Example() {
	dir, err := os.MkdirTemp("", "connmap")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	// The server makes a certificate and a secret the first time.
	identity, err := feed.LoadIdentity(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := printer{make(chan string, 1)}
	served := make(chan error)
	go func() { served <- (&feed.Server{Identity: identity, Handler: handler}).Serve(ctx, l) }()

	// The agent needs its address and a token; its key is its own.
	token, err := feed.ParseToken(identity.Token().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := feed.LoadKey(filepath.Join(dir, "agent-key.pem"))
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &feed.Client{Addr: l.Addr().String(), Token: token, Key: key, Name: "nas", Source: conntracktest.Source{N: 5}}
	reported := make(chan error)
	go func() { reported <- client.Run(ctx) }()

	fmt.Println(<-handler.full)
	cancel()
	fmt.Println(<-reported, <-served)
	// Output:
	// nas joins
	// nas has connections: true
	// <nil> <nil>
}

func report(ctx context.Context, server, text string) error {
	token, err := feed.ParseToken(text) // as "mapserver token" prints it
	if err != nil {
		return err
	}
	key, err := feed.LoadKey("agent-key.pem") // made when it is missing
	if err != nil {
		return err
	}
	c, err := conntrack.New(conntrack.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	client := &feed.Client{Addr: server, Token: token, Key: key, Name: "nas", Source: c, Info: c.Info}
	return client.Run(ctx)
}

func serve(ctx context.Context, l net.Listener, h feed.Handler) error {
	identity, err := feed.LoadIdentity("config") // made when it is missing
	if err != nil {
		return err
	}
	registry, err := feed.OpenRegistry("config/agents.json")
	if err != nil {
		return err
	}
	fmt.Println("agents join with the token", identity.Token())
	return (&feed.Server{Identity: identity, Registry: registry, Handler: h}).Serve(ctx, l)
}

// TestSnippets: the functions in the package comment work, and are the ones above.
func TestSnippets(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	snippet, snippets := "", 0
	for line := range strings.Lines(string(doc)) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			snippet += code
		} else if snippet != "" {
			assert.Contains(t, string(example), "\n"+snippet)
			snippet, snippets = "", snippets+1
		}
	}
	assert.Equal(t, 2, snippets)

	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	handler := printer{make(chan string, 1)}
	served, reported := make(chan error), make(chan error)
	require.NoError(t, os.Mkdir("config", 0o700))
	identity, err := feed.LoadIdentity("config")
	require.NoError(t, err)
	go func() { served <- serve(ctx, l, handler) }()
	go func() { reported <- report(ctx, l.Addr().String(), identity.Token().String()) }()
	assert.Contains(t, <-handler.full, "nas")
	cancel()
	assert.NoError(t, <-reported)
	assert.NoError(t, <-served)
}

package feed

import (
	"context"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTroubleIsPlain: what goes wrong is one line without a local port, which
// would make it new each time.
func TestTroubleIsPlain(t *testing.T) {
	id := identity(t)
	answer := func(f func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				f(c)
				c.Close()
			}
		}()
		return l.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone.Close()
	tests := []struct{ name, addr, want string }{
		{"down", gone.Addr().String(), "feed: nothing listens there: connection refused"},
		{"closes", answer(func(net.Conn) {}), "feed: the map server closed the link"},
		{"mail server", answer(func(c net.Conn) { io.WriteString(c, "220 mail.example.com ESMTP\r\n"); io.Copy(io.Discard, c) }), "feed: not a connmap server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &connector{Client: &Client{Token: id.Token()}, addrs: []string{tt.addr}, table: newTable(t)}
			for range 3 {
				assert.EqualError(t, explain(l.connect(context.Background(), func() {})), tt.want)
			}
		})
	}
	assert.EqualError(t, explain(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}), "feed: it does not answer")
	notFound := &net.DNSError{Err: "no such host", Name: "map.example.com", IsNotFound: true}
	c := &Client{Addr: "map.example.com", Token: id.Token(), Source: make(script),
		dial: func(context.Context, string, string) (net.Conn, error) { return nil, notFound }}
	err = c.Run(context.Background())
	assert.ErrorContains(t, err, `feed: there is no host "map.example.com"`)
	assert.NotContains(t, err.Error(), "\n")
	assert.ErrorContains(t, (&Client{Token: id.Token(), Source: make(script)}).Run(context.Background()), "HOST:PORT")
	assert.ErrorContains(t, (&Client{Addr: "x", Source: make(script)}).Run(context.Background()), "no token")
	assert.ErrorContains(t, (&Client{Addr: "x", Token: id.Token()}).Run(context.Background()), "no source")
}

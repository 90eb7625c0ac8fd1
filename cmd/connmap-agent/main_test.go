package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// connected makes a connection on loopback and returns both its ports.
func connected(t *testing.T) (client net.Conn, ports [2]string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return c, [2]string{c.LocalAddr().String(), l.Addr().String()}
}

func needsLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("knows what Linux tells of sockets")
	}
}

func TestOnceJSON(t *testing.T) {
	needsLinux(t)
	_, ports := connected(t)
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), []string{"-once", "-json", "-loopback"}, &out, io.Discard))
	found := false
	for sc := bufio.NewScanner(&out); sc.Scan(); {
		var line map[string]any
		require.NoError(t, json.Unmarshal(sc.Bytes(), &line), sc.Text())
		if line["local"] != ports[0] {
			continue
		}
		found = true
		assert.Equal(t, "open", line["event"])
		assert.Equal(t, "tcp", line["proto"])
		assert.Equal(t, "out", line["direction"])
		assert.Equal(t, ports[1], line["peer"])
		assert.EqualValues(t, os.Getpid(), line["pid"])
		assert.NotEmpty(t, line["comm"])
		assert.NotEmpty(t, line["exe"])
		assert.EqualValues(t, os.Getuid(), line["uid"])
		assert.NotContains(t, line, "container")
		_, err := time.Parse(time.RFC3339Nano, line["time"].(string))
		assert.NoError(t, err)
	}
	assert.True(t, found)
}

func TestWatchSeesOpenAndClose(t *testing.T) {
	needsLinux(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-watch", "-json", "-loopback", "-interval", "50ms"}, w, io.Discard)
		w.Close()
	}()
	c, ports := connected(t)
	var events []string
	for sc := bufio.NewScanner(r); sc.Scan(); {
		var line struct{ Event, Local string }
		require.NoError(t, json.Unmarshal(sc.Bytes(), &line))
		if line.Local != ports[0] {
			continue
		}
		events = append(events, line.Event)
		if line.Event == "open" {
			c.Close()
		}
		if line.Event == "close" {
			break
		}
	}
	assert.Equal(t, "open", events[0])
	assert.Equal(t, "close", events[len(events)-1])
	cancel()
	go io.Copy(io.Discard, r)
	assert.NoError(t, <-done)
}

// TestClosingIsSaid: a connection of which a side has closed is not passed off as
// established, in either form.
func TestClosingIsSaid(t *testing.T) {
	needsLinux(t)
	c, ports := connected(t)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	line := func(args ...string) (found string) {
		require.Eventually(t, func() bool {
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), append([]string{"-once", "-loopback"}, args...), &out, io.Discard))
			for sc := bufio.NewScanner(&out); sc.Scan(); {
				local, peer := strings.Index(sc.Text(), ports[1]), strings.Index(sc.Text(), ports[0])
				if local >= 0 && peer > local && strings.Contains(sc.Text(), "close-wait") {
					found = sc.Text()
				}
			}
			return found != ""
		}, time.Minute, 50*time.Millisecond)
		return found
	}
	assert.Contains(t, line("-json"), `"state":"close-wait"`)
	assert.True(t, strings.HasSuffix(line(), "  close-wait"))
}

func TestBadInput(t *testing.T) {
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	other, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&feed.Server{Identity: id}).Serve(ctx, l) }()
	defer func() { cancel(); <-done }()
	token, state := id.Token().String(), t.TempDir()
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "no server named"},
		{"no token", []string{"192.0.2.1"}, "no token"},
		{"damaged token", []string{"192.0.2.1", token[:50]}, "cut off after 50 of 52"},
		{"other text", []string{"192.0.2.1", "password"}, "no token: one begins with cm1_"},
		{"no such file", []string{"-token-file", "/nonexistent", "192.0.2.1"}, "/nonexistent"},
		{"both", []string{"-once", "-watch"}, "exclude each other"},
		{"json to a server", []string{"-json", "192.0.2.1", token}, "-json goes with"},
		{"server and once", []string{"-once", "192.0.2.1"}, "take no server"},
		{"token and once", []string{"-once", token}, "take no server"},
		{"too many", []string{"192.0.2.1", token, "x"}, "too many arguments: expected HOST and -"},
		{"a port apart", []string{"192.0.2.1", "6789", token}, "too many arguments: expected HOST and -"},
		{"wrong order", []string{token, "192.0.2.1"}, "the host comes first"},
		{"nothing to read", []string{"192.0.2.1", "-"}, "standard input has no token"},
		{"interval", []string{"-interval", "0s", "-once"}, "expected 10ms"},
		{"flag", []string{"-nonsense"}, "-h lists the flags"},
		{"wrong token", []string{l.Addr().String(), other.Token().String()}, "wrong token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CONNMAP_TOKEN", "")
			t.Setenv("STATE_DIRECTORY", state)
			err := run(context.Background(), tt.args, io.Discard, io.Discard)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), token, "it is a secret")
		})
	}
	assert.ErrorIs(t, run(context.Background(), []string{"-h"}, io.Discard, io.Discard), flag.ErrHelp)
}

func TestTokenNeedNotBeAnArgument(t *testing.T) {
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(id.Token().String()+"\n"), 0o600))
	o := options{tokenFile: file}
	got, err := o.readToken(t.Context(), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), got)
	t.Setenv("CONNMAP_TOKEN", id.Token().String())
	got, err = (&options{}).readToken(t.Context(), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), got)

	// The host alone is enough.
	dir := t.TempDir()
	t.Setenv("STATE_DIRECTORY", dir)
	t.Setenv("CONNMAP_TOKEN", "")
	_, err = (&options{}).readToken(t.Context(), io.Discard)
	assert.ErrorContains(t, err, filepath.Join(dir, "agent.token"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "agent.token"), []byte(id.Token().String()+"\n"), 0o600))
	o, err = parse([]string{"192.0.2.1"}, io.Discard, io.Discard)
	require.NoError(t, err)
	got, err = o.readToken(t.Context(), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), got)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = (&options{tokenFile: file}).readToken(t.Context(), io.Discard)
	assert.ErrorContains(t, err, "is empty")
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), []string{"-version"}, &out, io.Discard))
	assert.Equal(t, "connmap-agent development\n", out.String())
}

// TestLines: lines are those of a format for columns, in the order of the events.
func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := &printer{w: &out}
	at := time.Date(2026, 3, 1, 9, 5, 7, 0, time.UTC)
	var want strings.Builder
	for i, comm := range []string{"", "sshd", "é漢字", "a name of fifteen", "x\x1b[2J"} {
		c := conntrack.Conn{
			Proto: []conntrack.Proto{conntrack.TCP, conntrack.UDP, 132, 200, conntrack.ICMPv6}[i], Direction: conntrack.Direction(i % 3), Tx: uint64(i) << 50, Rx: 7,
			Local: netip.MustParseAddrPort("192.0.2.1:443"), Peer: netip.MustParseAddrPort("[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"),
			Process: conntrack.Process{PID: i * 1000, Comm: comm},
		}
		state, program := "", "?"
		if i == 3 {
			c.State, state = conntrack.FinWait2, "  fin-wait-2"
		}
		if i > 0 {
			program = fmt.Sprintf("%s[%d]", frame.Clean(c).Process.Comm, i*1000)
		}
		kind := []conntrack.Kind{conntrack.Open, conntrack.Update, conntrack.Close}[i%3]
		require.NoError(t, p.print(conntrack.Event{Kind: kind, Time: at, Conn: c}))
		fmt.Fprintf(&want, "09:05:07  %-6s %-6s %-7s %-28s %-28s %-24s tx %d rx %d%s\n", kind, c.Proto, c.Direction, c.Local, c.Peer, program, c.Tx, c.Rx, state)
	}
	require.NoError(t, p.print(conntrack.Event{Kind: conntrack.Lost, Time: at, Lost: 3}))
	require.NoError(t, p.flush())
	assert.Equal(t, want.String()+"09:05:07  lost 3 connections\n", out.String())
	assert.NotContains(t, out.String(), "\x1b")

	// The error of a write is returned, by a later call at the latest.
	p = &printer{w: failing{}}
	assert.NoError(t, p.print(conntrack.Event{Kind: conntrack.Lost, Time: at, Lost: 1}))
	assert.ErrorIs(t, p.flush(), os.ErrClosed)
	assert.ErrorIs(t, p.print(conntrack.Event{Kind: conntrack.Lost, Time: at, Lost: 1}), os.ErrClosed)
}

func TestNameOf(t *testing.T) {
	for _, tt := range []struct {
		process conntrack.Process
		want    string
	}{
		{conntrack.Process{}, "?"},
		{conntrack.Process{PID: 42, Comm: "sshd", Exe: "/usr/sbin/sshd"}, "sshd[42]"},
		{conntrack.Process{Comm: "kernel"}, "kernel"},
		{conntrack.Process{Comm: "kernel", Exe: "vxlan0\x1b"}, "kernel[vxlan0]"},
	} {
		p := &printer{}
		for range 2 {
			assert.Equal(t, tt.want, p.nameOf(tt.process))
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestNames: what -names keeps of names is printed and reported.
func TestNames(t *testing.T) {
	for _, mode := range []string{"full", "domain", "off"} {
		o, err := parse([]string{"-names", mode, "192.0.2.1", "-"}, io.Discard, io.Discard)
		require.NoError(t, err)
		want := map[string]string{"full": "www.example.com sni", "domain": "  example.com sni", "off": "tx 0 rx 0\n"}[mode]
		p := &printer{w: io.Discard, names: o.names}
		line, err := p.line(nil, conntrack.Event{Kind: conntrack.Open, Conn: conntrack.Conn{Name: "www.example.com", NameSource: conntrack.NameSNI}})
		require.NoError(t, err)
		assert.Contains(t, string(line), want)
	}
	_, err := parse([]string{"-names", "on", "192.0.2.1", "-"}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "use full, domain or off")
}

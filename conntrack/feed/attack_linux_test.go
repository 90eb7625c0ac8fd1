package feed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/internal/race"
)

// The test binary is also the server that is attacked, so that its memory is its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CONNMAP_FEED_SERVER"); dir != "" {
		serveProcess(dir)
		return
	}
	os.Exit(m.Run())
}

// serveProcess serves until standard input ends.
func serveProcess(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	id, err := LoadIdentity(dir)
	fail(err)
	r, err := OpenRegistry(filepath.Join(dir, "agents.json"))
	fail(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println(l.Addr())
	s := &Server{Identity: id, Registry: r, Handler: newHub(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	fail(s.Serve(ctx, l))
}

// A victim is a server in a process of its own.
type victim struct {
	addr  string
	token Token
	pid   int
	log   *logBook
}

func startVictim(t *testing.T) *victim {
	t.Helper()
	dir := t.TempDir()
	id, err := LoadIdentity(dir)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "CONNMAP_FEED_SERVER="+dir)
	v := &victim{token: id.Token(), log: &logBook{}}
	cmd.Stderr = v.log
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		assert.NoError(t, cmd.Wait(), v.log.String())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	v.addr, v.pid = strings.TrimSpace(line), cmd.Process.Pid
	return v
}

// resident returns the memory of the server in MiB.
func (v *victim) resident(t *testing.T) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	require.NoError(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return float64(kb) / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// from dials from one of many addresses of loopback.
func (v *victim) from(source int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+source/250), byte(1+source%250))}, Timeout: 5 * time.Second}
	return d.Dial("tcp", v.addr)
}

// greet joins on a connection as a client with the token would.
func (v *victim) greet(t *testing.T, raw net.Conn, token Token) (*tls.Conn, error) {
	raw.SetDeadline(time.Now().Add(time.Minute))
	l := &connector{Client: &Client{Token: token, Name: "rogue"}, addr: v.addr, table: newTable(t)}
	conn, _, err := l.securelyGreet(raw)
	return conn, err
}

// joins returns how long an agent needs to join from an address of loopback, however often
// it has to try.
func (v *victim) joins(t *testing.T, c *Client) time.Duration { return v.joinsFrom(t, "127.0.0.1", c) }

func (v *victim) joinsFrom(t *testing.T, source string, c *Client) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	joined := false
	l := &connector{Client: c, addrs: []string{v.addr}, table: newTable(t), log: slog.New(slog.DiscardHandler)}
	l.dial = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).DialContext
	if c.Key != nil {
		var err error
		l.cert, err = certOf(c.Key)
		require.NoError(t, err)
	}
	for ctx.Err() == nil {
		if err := l.connect(ctx, func() { joined = true; cancel() }); ctx.Err() == nil {
			t.Log("again: ", err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	assert.True(t, joined, "the honest agent is kept out")
	return time.Since(began)
}

// files returns how many file descriptors the server has.
func (v *victim) files(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.pid))
	require.NoError(t, err)
	return len(names)
}

// TestHalfOpen: twenty thousand connections that say nothing, each from another address,
// take neither descriptors nor memory, and keep nobody out.
func TestHalfOpen(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes memory of its own")
	}
	const n = 20_000
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	held := int(min(limit.Cur/2, n)) // at a time; the server has ended most of them by then
	v := startVictim(t)
	known := &Client{Token: v.token, Key: newKey(t), Name: "known", Source: make(script)}
	v.joins(t, known)
	before, files := v.resident(t), v.files(t)
	conns := make(chan net.Conn, held)
	var opened atomic.Int64
	var attackers sync.WaitGroup
	for worker := range 8 {
		attackers.Go(func() {
			for i := worker; i < n; i += 8 {
				c, err := v.from(i)
				if err != nil {
					continue
				}
				opened.Add(1)
				for kept := false; !kept; {
					select {
					case conns <- c:
						kept = true
					case old := <-conns:
						old.Close()
					}
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { attackers.Wait(); close(over) }()
	most, mostFiles, longest, longestNew := before, files, time.Duration(0), time.Duration(0)
	look := func() {
		most, mostFiles = max(most, v.resident(t)), max(mostFiles, v.files(t))
	}
	began := time.Now()
	for going := true; going; {
		select {
		case <-over:
			going = false
		default:
		}
		longest = max(longest, v.joins(t, known))
		look()
		longestNew = max(longestNew, v.joinsFrom(t, "127.100.0.1", &Client{Token: v.token, Name: "new", Source: make(script)}))
		look()
	}
	attack := time.Since(began)
	close(conns)
	for c := range conns {
		c.Close()
	}
	recovered := v.joinsFrom(t, "127.100.0.2", &Client{Token: v.token, Name: "later", Source: make(script)})
	t.Logf("%d half-open connections in %v: a known agent joins within %v, a new one within %v, after the attack within %v; %d descriptors before, at most %d; %.1f MiB before, at most %.1f",
		opened.Load(), attack.Round(time.Millisecond), longest.Round(time.Millisecond), longestNew.Round(time.Millisecond), recovered.Round(time.Millisecond), files, mostFiles, before, most)
	assert.Greater(t, opened.Load(), int64(n*9/10))
	assert.Less(t, mostFiles-files, 2*maxJoining+50)
	assert.Less(t, most-before, 30.0, "MiB")
	assert.Less(t, longest, 20*time.Second)
	assert.NotContains(t, v.log.String(), "panic")
}

// TestManyGuessers: thousands of addresses guess no faster than is counted for each, and
// not as fast as they can in all.
func TestManyGuessers(t *testing.T) {
	t.Parallel()
	v := startVictim(t)
	wrong := v.token
	wrong.secret[0]++
	const sources, each = 120, maxGuesses + 3
	var mu sync.Mutex
	guesses := map[int]int{}
	total := 0
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for source := range sources {
		attackers.Go(func() {
			for range each {
				select {
				case <-stop:
					return
				default:
				}
				c, err := v.from(source)
				if err != nil {
					continue
				}
				_, err = v.greet(t, c, wrong)
				c.Close()
				mu.Lock()
				if errors.Is(err, ErrToken) {
					guesses[source]++
					total++
				}
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	time.Sleep(3 * time.Second)
	took := v.joinsFrom(t, "127.100.0.1", &Client{Token: v.token, Name: "new", Source: make(script)})
	close(stop)
	attackers.Wait()
	elapsed := time.Since(began)
	for source, n := range guesses {
		assert.LessOrEqual(t, n, maxGuesses, "source %d", source)
	}
	t.Logf("%d guesses from %d addresses in %v; a new agent joins within %v", total, sources, elapsed.Round(time.Millisecond), took.Round(time.Millisecond))
	assert.Greater(t, total, slowGuesses)
	// Each of those at work at a time needs guessTime when there are many.
	assert.LessOrEqual(t, total, slowGuesses+sources*(2+int(elapsed/guessTime)))
}

// attackTime is how long each attack takes: some tenths of a second suffice for it to reach its
// heights.
func attackTime() time.Duration {
	if testing.Short() {
		return 500 * time.Millisecond
	}
	return 2 * time.Second
}

// TestAttacks: whatever others do, an honest agent joins within seconds, the server's
// memory stays within bounds, and the log says what was refused without being flooded.
func TestAttacks(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes memory of its own")
	}
	raw := func(b ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	big, err := cbor.Marshal([]any{4, 1, false, []any{[]any{0, 0, 0, nil, nil, 0, "", "", "", 0, 0, 0, 0, 0}}})
	require.NoError(t, err)
	bombs := map[string][]byte{
		"nesting":           raw(append([]byte{0x84, 4, 1, 0xf4}, bytes.Repeat([]byte{0x81}, 200_000)...)...),
		"huge array":        raw(0x84, 4, 1, 0xf4, 0x9b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff),
		"huge text":         raw(0x84, 4, 1, 0xf4, 0x81, 0x8e, 1, 6, 1, 0x46, 0, 0, 0, 0, 0, 1, 0x5b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff),
		"nulls":             raw(append([]byte{0x84, 4, 1, 0xf4, 0x99, 0x0f, 0xff}, bytes.Repeat([]byte{0xf6}, 4095)...)...),
		"oversized":         {0x7f, 0xff, 0xff, 0xff},
		"garbage":           []byte(strings.Repeat("garbage", 10_000)),
		"duplicate keys":    raw(0x82, 2, 0xa3, 1, 1, 1, 2, 3, 0x50),
		"row of nothing":    raw(big...),
		"endless":           raw(0x9f, 4, 1),
		"a proof once more": raw(append([]byte{0x82, 1, 0x58, 32}, make([]byte, 32)...)...),
	}
	attacks := []struct {
		name   string
		refuse string // what the log says of it
		run    func(t *testing.T, v *victim, stop <-chan struct{}, n int)
	}{
		{"wrong secrets", "wrong token", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			wrong := v.token
			wrong.secret[0]++
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := v.from(n + 8*(i%100)); err == nil {
					_, err = v.greet(t, c, wrong)
					assert.Error(t, err)
					c.Close()
				}
			}
		}},
		{"replayed proofs", "wrong token", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			var old proofFrame
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := v.from(n + 8*(i%100))
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
				if conn.Handshake() == nil {
					cs := conn.ConnectionState()
					p, err := proof(&cs, v.token, roleAgent)
					require.NoError(t, err)
					if old.Proof == nil {
						old = proofFrame{Proof: p}
					} else if frame.Write(conn, old) == nil {
						kind, _, err := frame.NewReader(conn).Next(frame.MaxGreeting)
						assert.False(t, err == nil && kind == frame.TypeProof, "it was let in")
					}
				}
				c.Close()
			}
		}},
		{"a thousand silent sockets", "its place was needed", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			for i := range 125 {
				if c, err := v.from(n + 8*(i%100)); err == nil {
					defer c.Close()
				}
			}
			<-stop
		}},
		{"dribble", "", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			var conns []net.Conn
			for i := range 20 {
				c, err := v.from(n + 8*i)
				if err != nil {
					continue
				}
				defer c.Close()
				if i%2 == 0 {
					conns = append(conns, c) // before TLS
				} else if conn, err := v.greet(t, c, v.token); err == nil {
					conn.Write([]byte{0, 4, 0, 0, 0x84, 4, 1})
					conns = append(conns, conn)
				}
			}
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
				for _, c := range conns {
					c.SetDeadline(time.Now().Add(time.Second))
					c.Write([]byte{0x16})
				}
			}
		}},
		{"damaged frames and bombs", "damaged frame", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			for i := 0; ; i++ {
				for name, b := range bombs {
					select {
					case <-stop:
						return
					default:
					}
					c, err := v.from(n + 8*(i%100))
					if err != nil {
						continue
					}
					if conn, err := v.greet(t, c, v.token); err == nil {
						conn.Write(b)
						if name != "a proof once more" && name != "duplicate keys" { // these are skipped
							_, err := conn.Read(make([]byte, 100))
							assert.NoError(t, err, "%s: the server says farewell", name)
						}
					}
					c.Close()
				}
			}
		}},
		{"a flood of frames", "", func(t *testing.T, v *victim, stop <-chan struct{}, n int) {
			c, err := v.from(n)
			if err != nil {
				return
			}
			defer c.Close()
			conn, err := v.greet(t, c, v.token)
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
			conns := make([]conntrack.Conn, 2000)
			for i := range conns {
				conns[i] = testConn(rand.Uint64(), 1)
				conns[i].Process.Exe, conns[i].Process.Container = strings.Repeat("x", 30), ""
			}
			for seq := uint64(1); ; seq++ {
				select {
				case <-stop:
					return
				default:
				}
				c.SetDeadline(time.Now().Add(200 * time.Millisecond))
				if frame.Write(conn, frame.Full{Seq: seq, Conns: conns}) != nil {
					<-stop
					return
				}
			}
		}},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			v := startVictim(t)
			key := newKey(t)
			honest := &Client{Token: v.token, Key: key, Name: "honest", Source: make(script)}
			v.joins(t, honest)
			before := v.resident(t)
			stop := make(chan struct{})
			var attackers sync.WaitGroup
			for n := range 8 {
				attackers.Go(func() { a.run(t, v, stop, n) })
			}
			most, longest := before, time.Duration(0)
			for began := time.Now(); time.Since(began) < attackTime(); {
				longest = max(longest, v.joins(t, honest))
				most = max(most, v.resident(t))
				time.Sleep(100 * time.Millisecond)
			}
			close(stop)
			attackers.Wait()
			t.Logf("%s: honest agents join within %v; %.1f MiB before, at most %.1f", a.name, longest.Round(time.Millisecond), before, most)
			assert.Less(t, longest, 20*time.Second)
			assert.Less(t, most-before, 50.0, "MiB")
			log := v.log.String()
			if a.refuse != "" {
				assert.Contains(t, log, a.refuse)
			}
			assert.LessOrEqual(t, strings.Count(log, "refused"), 8, "not flooded")
			assert.NotContains(t, log, "panic")
		})
	}
}

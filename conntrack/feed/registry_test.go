package feed

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

func newRegistry(t *testing.T) *Registry {
	t.Helper()
	r, err := OpenRegistry(filepath.Join(t.TempDir(), "agents.json"))
	require.NoError(t, err)
	return r
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	key, err := LoadKey(filepath.Join(t.TempDir(), "state", "agent-key.pem"))
	require.NoError(t, err)
	return key
}

// A logBook is a log that tests read while it is written.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves until the test ends.
func start(t *testing.T, s *Server) (addr string, log *logBook) {
	t.Helper()
	log = &logBook{}
	s.Logger = slog.New(slog.NewTextHandler(log, nil))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return l.Addr().String(), log
}

// join tries to join once.
func join(t *testing.T, addr string, c *Client) (*tls.Conn, error) {
	t.Helper()
	l := &connector{Client: c, addr: addr, table: newTable(t)}
	if c.Key != nil {
		var err error
		l.cert, err = certOf(c.Key)
		require.NoError(t, err)
	}
	raw, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute))
	conn, _, err := l.securelyGreet(raw)
	return conn, err
}

func TestLoadKey(t *testing.T) {
	name := filepath.Join(t.TempDir(), "deep", "agent-key.pem")
	key, err := LoadKey(name)
	require.NoError(t, err)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := LoadKey(name)
	require.NoError(t, err)
	assert.Equal(t, key, again)
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE " + "KEY-----\nAAAA\n-----END PRIVATE " + "KEY-----\n"} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, err = LoadKey(name)
		assert.ErrorContains(t, err, "damaged", "%q", text)
	}
	_, err = LoadKey(filepath.Join(name, "below", "a", "file"))
	assert.Error(t, err)
}

// TestKeyOutlivesToken: an agent that has joined needs no token any more. A stolen token is of no
// use after it was changed.
func TestKeyOutlivesToken(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h})
	stolen, key := id.Token(), newKey(t)
	_, err := join(t, addr, &Client{Token: stolen, Key: key, Name: "nas"})
	require.NoError(t, err)
	next, err := id.NewToken(0, true)
	require.NoError(t, err)
	assert.NotEqual(t, stolen, next)
	assert.Equal(t, next, id.Token())
	_, err = join(t, addr, &Client{Token: stolen, Key: key, Name: "somebody"})
	require.NoError(t, err, "its key is known")
	_, err = join(t, addr, &Client{Token: stolen, Key: newKey(t), Name: "thief"})
	assert.ErrorIs(t, err, ErrToken)
	_, err = join(t, addr, &Client{Token: stolen, Name: "thief"})
	assert.ErrorIs(t, err, ErrToken, "nor without a key")
	_, err = join(t, addr, &Client{Token: next, Key: newKey(t), Name: "nas"})
	require.NoError(t, err)
	all, err := r.All()
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, []string{"nas", "nas #2"}, []string{all[0].Name, all[1].Name})
	assert.Equal(t, Key(key.Public().(ed25519.PublicKey)), all[0].Key)
	assert.Equal(t, "127.0.0.1", all[0].Addr)
	eventually(t, "names are those of the registry, whatever agents say", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		names := map[string]bool{}
		for _, a := range h.agents {
			names[a.Name] = true
		}
		return len(h.agents) == 2 && names["nas"] && names["nas #2"]
	})
	assert.Contains(t, log.String(), "wrong token")
	assert.Equal(t, 1, strings.Count(log.String(), "wrong token"), "the second one is counted")

	again, err := OpenRegistry(r.name)
	require.NoError(t, err)
	kept, err := again.All()
	require.NoError(t, err)
	assert.Equal(t, all, kept)
}

// TestRevoke: another process revokes an agent that is linked.
func TestRevoke(t *testing.T) {
	t.Parallel()
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h})
	key := newKey(t)
	c := &Client{Addr: addr, Token: id.Token(), Key: key, Name: "nas", Source: make(script)}
	done, _ := report(t, c)
	report(t, &Client{Addr: addr, Token: id.Token(), Key: newKey(t), Name: "web", Source: make(script)})
	eventually(t, "both join", func() bool { _, n := h.total(); return n == 2 })
	other, err := OpenRegistry(r.name)
	require.NoError(t, err)
	require.NoError(t, other.Rename("web", "www"))
	a, err := other.Revoke(Key(key.Public().(ed25519.PublicKey)).String()[:12])
	require.NoError(t, err)
	assert.Equal(t, "nas", a.Name)
	eventually(t, "one goes, the other comes back by its new name", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range h.agents {
			return len(h.agents) == 1 && a.Name == "www"
		}
		return false
	})
	_, err = join(t, addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	assert.ErrorIs(t, err, ErrRevoked, "the token does not help")
	eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "revoked") })
	select {
	case err := <-done:
		t.Fatal("the client gives up: ", err) // an operator may think better of it
	default:
	}
	// The name is free again.
	_, err = join(t, addr, &Client{Token: id.Token(), Key: newKey(t), Name: "nas"})
	require.NoError(t, err)
	_, err = other.Revoke("nobody")
	assert.ErrorContains(t, err, `no agent is called "nobody"`)
	assert.ErrorContains(t, other.Rename("www", "nas"), "already")
	assert.ErrorContains(t, other.Rename("www", "a\x1bb"), "cannot be")
	assert.ErrorContains(t, other.Rename("www", ""), "cannot be")
}

// TestOneKeyTwice: an agent that started anew while its network was down takes the place
// of the link that was left.
func TestOneKeyTwice(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h})
	key := newKey(t)
	first, err := join(t, addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	require.NoError(t, err)
	_, err = join(t, addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	require.NoError(t, err)
	assert.ErrorIs(t, (&clientSession{conn: first, reporter: newTable(t).Report(frame.Welcome{}, nil)}).listen(), errShared)
	eventually(t, "one agent", func() bool { _, n := h.total(); return n == 1 && h.counts().joins == 2 })
	assert.Contains(t, log.String(), "two machines share one key")
}

// TestManyEnrol: many new agents at once, and other processes that change the file
// meanwhile.
func TestManyEnrol(t *testing.T) {
	r := newRegistry(t)
	other, err := OpenRegistry(r.name)
	require.NoError(t, err)
	var work sync.WaitGroup
	for i := range 200 {
		work.Go(func() {
			where := r
			if i%2 == 1 {
				where = other
			}
			a, err := where.enrol(Registered{Key: Key{byte(i), 1}, Name: "host", Addr: "192.0.2.1", Joined: time.Now()}, "")
			assert.NoError(t, err)
			assert.True(t, strings.HasPrefix(a.Name, "host"), a.Name)
			if i%50 == 3 {
				_, err := where.Revoke(a.Name)
				assert.NoError(t, err)
			}
		})
	}
	work.Wait()
	all, err := r.All()
	require.NoError(t, err)
	assert.Len(t, all, 200)
	names, revoked := map[string]bool{}, 0
	for _, a := range all {
		if a.Revoked.IsZero() {
			assert.False(t, names[a.Name], a.Name)
			names[a.Name] = true
		} else {
			revoked++
		}
	}
	assert.Equal(t, 4, revoked)
	a, err := r.enrol(Registered{Key: Key{1, 2, 3}, Name: strings.Repeat("é", 200), Joined: time.Now()}, "")
	require.NoError(t, err)
	b, err := r.enrol(Registered{Key: Key{1, 2, 4}, Name: strings.Repeat("é", 200), Joined: time.Now()}, "")
	require.NoError(t, err)
	assert.NotEqual(t, a.Name, b.Name)
	_, err = OpenRegistry(r.name)
	assert.NoError(t, err)
}

func TestDamagedRegistry(t *testing.T) {
	key := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"": "damaged", "{}": "damaged", `[{"key":"12"}]`: "64 hexadecimal", `[{"name":"x"}]`: "no key",
		`[{"key":"` + key + `"}]`: "no name",
		fmt.Sprintf(`[{"key":"%s","name":"x"},{"key":"%[1]s","name":"y"}]`, key): "one of another agent",
	} {
		name := filepath.Join(t.TempDir(), "agents.json")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, err := OpenRegistry(name)
		require.ErrorContains(t, err, want, text)
		assert.ErrorContains(t, err, name)
		assert.NotContains(t, err.Error(), "\n")
	}
}

func FuzzParseRegistry(f *testing.F) {
	key := strings.Repeat("ab", 32)
	f.Add([]byte(`[{"key":"` + key + `","name":"nas","addr":"192.0.2.1","joined":"2026-01-02T03:04:05Z","seen":"2026-01-02T03:04:05Z"}]`))
	f.Add([]byte(`[{"key":"` + key + `","name":"a\u001bb","revoked":"2026-01-02T03:04:05Z"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseRegistry(b)
		if err != nil {
			return
		}
		for _, a := range l {
			assert.Equal(t, clean(a.Name), a.Name)
			if a.Joined.Year() < 0 || a.Joined.Year() > 9999 || a.Seen.Year() < 0 || a.Seen.Year() > 9999 || a.Revoked.Year() > 9999 {
				return // JSON has no such times
			}
		}
		again, err := parseRegistry(formatRegistry(l))
		require.NoError(t, err)
		assert.Len(t, again, len(l))
	})
}

func TestTokensExpire(t *testing.T) {
	id := identity(t)
	first := id.Token()
	short, err := id.NewToken(time.Hour, false)
	require.NoError(t, err)
	assert.Equal(t, first, id.Token(), "the one that works longest")
	works := func(token Token, now time.Time) bool {
		for _, s := range id.secrets.list {
			if s.value == token.secret {
				return s.works(now)
			}
		}
		return false
	}
	now := time.Now()
	assert.True(t, works(short, now.Add(59*time.Minute)))
	assert.False(t, works(short, now.Add(time.Hour)))
	assert.True(t, works(first, now.Add(100*365*24*time.Hour)))
	// Another process with the same folder.
	other, err := LoadIdentity(id.dir)
	require.NoError(t, err)
	last, err := other.NewToken(time.Minute, true)
	require.NoError(t, err)
	assert.Equal(t, last, id.Token(), "learnt from the file")
	assert.False(t, works(first, now))
	assert.Equal(t, Token{}, id.secrets.lasting(now.Add(2*time.Minute)), "none works")
	for range maxSecrets - 1 {
		_, err = id.NewToken(time.Hour, false)
		require.NoError(t, err)
	}
	_, err = id.NewToken(time.Hour, false)
	assert.ErrorContains(t, err, "16 tokens already")
	_, err = id.NewToken(0, true)
	assert.NoError(t, err)

	// A file that is damaged while the server runs lets nobody new in, and says so.
	h, r := newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h})
	key, token := newKey(t), id.Token()
	_, err = join(t, addr, &Client{Token: token, Key: key})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(id.secrets.name, []byte("damaged"), 0o600))
	_, err = join(t, addr, &Client{Token: token})
	assert.Error(t, err)
	_, err = join(t, addr, &Client{Token: token, Key: key})
	assert.NoError(t, err)
	eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "server-secret: damaged") })
	_, err = id.NewToken(0, true)
	assert.NoError(t, err, "this puts it right")
}

func FuzzParseSecrets(f *testing.F) {
	f.Add([]byte("000102030405060708090a0b0c0d0e0f\n"))
	f.Add([]byte("000102030405060708090a0b0c0d0e0f 2026-01-02T03:04:05Z\n\n000102030405060708090a0b0c0d0e0f"))
	f.Add([]byte("000102030405060708090a0b0c0d0e0f 2026\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSecrets(b)
		if err != nil {
			return
		}
		again, err := parseSecrets(formatSecrets(list))
		require.NoError(t, err)
		require.Len(t, again, len(list))
		for i := range list {
			assert.Equal(t, list[i].value, again[i].value)
			assert.True(t, list[i].until.Truncate(time.Second).Equal(again[i].until))
		}
	})
}

// TestPassword: the way of connmapperl, a password and the server's certificate.
func TestPassword(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	require.NoError(t, id.SetPassword("open sesame"))
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h})
	file, err := os.ReadFile(filepath.Join(id.dir, "server-cert.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(file)
	for name, text := range map[string][]byte{
		"PEM": file, "PEM in base64": []byte(base64.StdEncoding.EncodeToString(file)),
		"DER in base64": []byte(base64.StdEncoding.EncodeToString(block.Bytes) + "\n"),
	} {
		cert, err := ParseCertificate(text)
		require.NoError(t, err, name)
		token, err := PasswordToken("open sesame", cert)
		require.NoError(t, err)
		_, err = join(t, addr, &Client{Token: token})
		assert.NoError(t, err, name)
	}
	seen, err := FetchCertificate(context.Background(), addr)
	require.NoError(t, err)
	assert.Equal(t, Fingerprint(id.Certificate()), Fingerprint(seen))
	assert.Len(t, Fingerprint(seen), len("SHA256:")+64)
	wrong, err := PasswordToken("open sesame!", seen)
	require.NoError(t, err)
	_, err = join(t, addr, &Client{Token: wrong})
	assert.ErrorIs(t, err, ErrToken)
	assert.EqualError(t, err, "feed: wrong password: it is not the one that this map server lets in by")
	eventually(t, "the server calls it so too", func() bool { return strings.Contains(log.String(), "wrong password or token") })
	other, err := PasswordToken("open sesame", identity(t).Certificate())
	require.NoError(t, err)
	_, err = join(t, addr, &Client{Token: other})
	assert.ErrorIs(t, err, ErrToken, "another server's certificate: nothing leaves")
	assert.EqualError(t, err, "feed: wrong certificate: the map server at "+addr+" has another one; copy its server-cert.pem again")
	_, err = PasswordToken("", seen)
	assert.EqualError(t, err, "feed: the password is empty")
	for _, text := range []string{"", "secret", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "AAAA", strings.Repeat("A", 1<<20)} {
		_, err := ParseCertificate([]byte(text))
		assert.ErrorContains(t, err, "no certificate", text[:min(len(text), 20)])
	}
}

// TestMostConnectionsGoFirst: if there are too many connections, the agent with the most is
// dismissed, not the last one.
func TestMostConnectionsGoFirst(t *testing.T) {
	id, h := identity(t), newHub()
	addr, log := start(t, &Server{Identity: id, Handler: h, MaxTotal: 100})
	send := func(conn net.Conn, seq, from, n uint64) {
		f := frame.Full{Seq: seq}
		for i := range n {
			f.Conns = append(f.Conns, testConn(from+i, 1))
		}
		require.NoError(t, frame.Write(conn, f))
	}
	greedy, err := join(t, addr, &Client{Token: id.Token(), Name: "greedy"})
	require.NoError(t, err)
	send(greedy, 1, 1, 90)
	eventually(t, "it has many", func() bool { n, _ := h.total(); return n == 90 })
	modest, err := join(t, addr, &Client{Token: id.Token(), Name: "modest"})
	require.NoError(t, err)
	send(modest, 1, 1000, 20)
	eventually(t, "only the modest one is left", func() bool { n, agents := h.total(); return n == 20 && agents == 1 })
	eventually(t, "which is said", func() bool {
		return strings.Contains(log.String(), `agent \"greedy\": feed: all agents together have more connections`)
	})
	send(modest, 2, 1000, 99)
	eventually(t, "there is room again", func() bool { n, _ := h.total(); return n == 99 })
}

// TestTooFast: an agent that sends too fast is throttled, which is logged once.
func TestTooFast(t *testing.T) {
	id := identity(t)
	addr, log := start(t, &Server{Identity: id, Handler: newHub()})
	conn := authenticated(t, addr, id.Token(), newRun())
	var pings bytes.Buffer
	for range 5 * framesBurst {
		require.NoError(t, frame.Write(&pings, frame.Ping{}))
	}
	_, err := conn.Write(pings.Bytes())
	require.NoError(t, err)
	eventually(t, "it is logged", func() bool { return strings.Contains(log.String(), "slowed down") })
	time.Sleep(200 * time.Millisecond)
	assert.Equal(t, 1, strings.Count(log.String(), "sends too fast"))
}

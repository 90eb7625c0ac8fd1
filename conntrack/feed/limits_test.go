package feed

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// joinFrom tries to join once, from an address of loopback.
func joinFrom(t *testing.T, source, addr string, c *Client) (*tls.Conn, error) {
	t.Helper()
	l := &connector{Client: c, addr: addr, table: newTable(t)}
	if c.Key != nil {
		var err error
		l.cert, err = certOf(c.Key)
		require.NoError(t, err)
	}
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute))
	conn, _, err := l.securelyGreet(raw)
	return conn, err
}

// names returns what the agents that are linked are called.
func (h *hub) names() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := map[string]int{}
	for _, a := range h.agents {
		names[a.Name]++
	}
	return names
}

// TestGuessesAtOnce: many guesses at the same time are as many as one after the other.
func TestGuessesAtOnce(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, _ := start(t, &Server{Identity: id, Registry: r, Handler: h})
	key := newKey(t)
	_, err := joinFrom(t, "127.0.0.3", addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	require.NoError(t, err)
	wrong := id.Token()
	wrong.secret[3]++
	var all sync.WaitGroup
	var mu sync.Mutex
	guesses := 0
	for range 40 {
		all.Go(func() {
			_, err := joinFrom(t, "127.0.0.3", addr, &Client{Token: wrong, Name: "thief"})
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrToken) {
				guesses++
			}
		})
	}
	all.Wait()
	assert.Equal(t, maxGuesses, guesses)
	_, err = joinFrom(t, "127.0.0.3", addr, &Client{Token: wrong, Key: key, Name: "nas"})
	assert.NoError(t, err, "who has a known key needs no token")
	_, err = joinFrom(t, "127.0.0.4", addr, &Client{Token: id.Token(), Name: "other"})
	assert.NoError(t, err, "another address may try")
}

// TestRightTokensAreNoGuesses: however many join from one address at once.
func TestRightTokensAreNoGuesses(t *testing.T) {
	id, h := identity(t), newHub()
	addr, _ := start(t, &Server{Identity: id, Handler: h})
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			_, err := join(t, addr, &Client{Token: id.Token(), Name: "nas"})
			assert.NoError(t, err)
		})
	}
	all.Wait()
}

// TestPasswordsAreTriedSlowly: all sources together try a number of passwords a second;
// meanwhile tokens are as good as ever.
func TestPasswordsAreTriedSlowly(t *testing.T) {
	id, h := identity(t), newHub()
	require.NoError(t, id.SetPassword("open sesame"))
	s := &Server{Identity: id, Handler: h}
	addr, _ := start(t, s)
	password, err := PasswordToken("open sesame", id.Certificate())
	require.NoError(t, err)
	_, err = join(t, addr, &Client{Token: password, Name: "old"})
	require.NoError(t, err)
	s.mu.Lock()
	s.passwords, s.passwordsAt = -1, time.Now().Add(time.Minute) // as after many wrong ones
	s.mu.Unlock()
	_, err = join(t, addr, &Client{Token: password, Name: "old"})
	assert.ErrorContains(t, err, "so many wrong passwords")
	_, err = join(t, addr, &Client{Token: id.Token(), Name: "new"})
	assert.NoError(t, err)
	s.mu.Lock()
	s.passwords = 1
	s.mu.Unlock()
	for range 3 {
		_, err = join(t, addr, &Client{Token: password, Name: "old"})
		assert.NoError(t, err, "a right one is given back")
	}
}

// untilEmpty waits until no agent has a place. The Handler knows a moment before that they have left.
func (s *Server) untilEmpty(t *testing.T) {
	t.Helper()
	eventually(t, "all have left", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.links) == 0
	})
}

// TestKeylessGiveWay: agents without a key can take all places, but give way to an agent with a
// key, and to one from a source with fewer agents.
func TestKeylessGiveWay(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	s := &Server{Identity: id, Registry: r, Handler: h, MaxAgents: 6}
	addr, log := start(t, s)
	key := newKey(t)
	conn, err := joinFrom(t, "127.0.1.9", addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	require.NoError(t, err)
	conn.Close()
	s.untilEmpty(t)
	for range 6 {
		_, err := joinFrom(t, "127.0.2.1", addr, &Client{Token: id.Token(), Name: "rogue"})
		require.NoError(t, err)
	}
	_, err = joinFrom(t, "127.0.2.1", addr, &Client{Token: id.Token(), Name: "rogue"})
	assert.ErrorContains(t, err, "as many agents as it takes", "its own do not give way")
	_, err = joinFrom(t, "127.0.1.9", addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	require.NoError(t, err)
	_, err = joinFrom(t, "127.0.3.1", addr, &Client{Token: id.Token(), Name: "guest"})
	require.NoError(t, err)
	eventually(t, "the crowd has made room", func() bool {
		n := h.names()
		return n["nas"] == 1 && n["guest"] == 1 && n["rogue"] == 4
	})
	assert.Contains(t, log.String(), "as many agents as this server takes")
}

// TestNewKeysGiveWay: new keys do not take the place of older ones.
func TestNewKeysGiveWay(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	s := &Server{Identity: id, Registry: r, Handler: h, MaxAgents: 4}
	addr, _ := start(t, s)
	old := newKey(t)
	conn, err := joinFrom(t, "127.0.1.9", addr, &Client{Token: id.Token(), Key: old, Name: "nas"})
	require.NoError(t, err)
	conn.Close()
	s.untilEmpty(t)
	require.NoError(t, r.update(func(l agents) (bool, error) {
		l[Key(old.Public().(ed25519.PublicKey))].Joined = time.Now().Add(-time.Hour)
		return true, nil
	}))
	for i := range 3 {
		_, err := joinFrom(t, []string{"127.0.2.1", "127.0.3.1", "127.0.3.1"}[i], addr, &Client{Token: id.Token(), Key: newKey(t), Name: "rogue"})
		require.NoError(t, err)
	}
	_, err = joinFrom(t, "127.0.5.1", addr, &Client{Token: id.Token(), Name: "keyless"})
	require.NoError(t, err)
	_, err = joinFrom(t, "127.0.1.9", addr, &Client{Token: id.Token(), Key: old, Name: "nas"})
	require.NoError(t, err)
	eventually(t, "who has no key goes first", func() bool { n := h.names(); return n["nas"] == 1 && n["keyless"] == 0 && len(n) == 4 })
	_, err = joinFrom(t, "127.0.6.1", addr, &Client{Token: id.Token(), Name: "keyless"})
	assert.ErrorContains(t, err, "as many agents as it takes")
	assert.Len(t, h.names(), 4)
}

// TestNewKeysAreLimited: one source may add half as many keys within a minute as there may be
// agents.
func TestNewKeysAreLimited(t *testing.T) {
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h, MaxAgents: 2 * minNewKeys})
	first := newKey(t)
	for i := range minNewKeys + 2 {
		key := newKey(t)
		if i == 0 {
			key = first
		}
		conn, err := joinFrom(t, "127.0.2.1", addr, &Client{Token: id.Token(), Key: key, Name: "many"})
		if i < minNewKeys {
			require.NoError(t, err)
			conn.Close()
		} else {
			assert.ErrorContains(t, err, "too many new agents")
		}
	}
	_, err := joinFrom(t, "127.0.2.1", addr, &Client{Token: id.Token(), Key: first, Name: "many"})
	assert.NoError(t, err, "it is known")
	_, err = joinFrom(t, "127.0.3.1", addr, &Client{Token: id.Token(), Key: newKey(t), Name: "other"})
	assert.NoError(t, err)
	all, err := r.All()
	require.NoError(t, err)
	assert.Len(t, all, minNewKeys+1)
	assert.Contains(t, log.String(), "too many agents are new")
}

// TestKeylessNames: an agent without a key does not get the name of one that has a key, even if
// that one joins later, nor that of the server's machine.
func TestKeylessNames(t *testing.T) {
	t.Parallel()
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h, Name: "map"})
	report(t, &Client{Addr: addr, Token: id.Token(), Name: "Nas", Source: make(script)})
	eventually(t, "nobody else has the name", func() bool { return h.names()["Nas"] == 1 })
	_, err := join(t, addr, &Client{Token: id.Token(), Key: newKey(t), Name: "nas"})
	require.NoError(t, err)
	eventually(t, "both are there", func() bool {
		n := h.names()
		return n["nas"] == 1 && n["Nas (no key)"] == 1 && n["Nas"] == 0
	})
	_, err = join(t, addr, &Client{Token: id.Token(), Name: "map"})
	require.NoError(t, err)
	_, err = join(t, addr, &Client{Token: id.Token(), Key: newKey(t), Name: "map"})
	require.NoError(t, err)
	eventually(t, "the machine of the server", func() bool {
		n := h.names()
		return n["map (no key)"] == 1 && n["map #2"] == 1 && n["map"] == 0
	})
	assert.Contains(t, log.String(), "has the name of a known one")
}

// TestApprove: where that is asked for nobody reports before somebody has approved it.
func TestApprove(t *testing.T) {
	t.Parallel()
	id, h, r := identity(t), newHub(), newRegistry(t)
	addr, log := start(t, &Server{Identity: id, Registry: r, Handler: h, Approve: true})
	key := newKey(t)
	_, err := join(t, addr, &Client{Token: id.Token(), Key: key, Name: "nas"})
	assert.ErrorContains(t, err, "mapserver agents approve "+Key(key.Public().(ed25519.PublicKey)).String()[:12])
	_, err = join(t, addr, &Client{Token: id.Token(), Name: "keyless"})
	assert.ErrorContains(t, err, "approved")
	eventually(t, "the log says so", func() bool { return strings.Contains(log.String(), "mapserver agents approve") })
	wrong := id.Token()
	wrong.secret[0]++
	_, err = join(t, addr, &Client{Token: wrong, Key: key, Name: "nas"})
	assert.ErrorIs(t, err, ErrToken, "who waits needs a token each time")
	all, err := r.All()
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.True(t, all[0].Waiting)

	other, err := OpenRegistry(r.name) // as another process
	require.NoError(t, err)
	a, err := other.Approve("nas")
	require.NoError(t, err)
	assert.Equal(t, all[0].Key, a.Key)
	assert.True(t, a.Waiting, "it had waited")
	a, err = other.Approve("nas")
	assert.NoError(t, err)
	assert.False(t, a.Waiting, "it waits no more")
	_, err = other.Approve("nobody")
	assert.Error(t, err)
	eventually(t, "the server learns of it", func() bool {
		_, err := join(t, addr, &Client{Token: wrong, Key: key, Name: "nas"})
		return err == nil
	})
	eventually(t, "it reports", func() bool { return h.names()["nas"] >= 1 })
}

// TestUnapprovedAreBounded: of those that wait the oldest makes room.
func TestUnapprovedAreBounded(t *testing.T) {
	r := newRegistry(t)
	now := time.Now()
	var all sync.WaitGroup
	for i := range maxUnapproved + 20 {
		all.Go(func() {
			_, err := r.enrol(Registered{Key: Key{1, byte(i), byte(i >> 8)}, Name: "nas", Joined: now.Add(time.Duration(i) * time.Second), Waiting: true}, "")
			assert.NoError(t, err)
		})
	}
	all.Wait()
	list, err := r.All()
	require.NoError(t, err)
	assert.Len(t, list, maxUnapproved)
	for i := range 30 { // a flood from elsewhere does not push them out
		_, err := r.enrol(Registered{Key: Key{2, byte(i)}, Name: "flood", Addr: fmt.Sprintf("198.51.100.%d", i), Joined: now.Add(-time.Hour), Waiting: true}, "")
		require.NoError(t, err)
	}
	list, err = r.All()
	require.NoError(t, err)
	assert.Len(t, list, maxUnapproved)
	names := map[string]bool{}
	for _, a := range list {
		assert.False(t, names[a.Name], a.Name)
		names[a.Name] = true
	}
}

// TestFloodPushesNobodyOut: of those that wait one of the network that has most makes room.
func TestFloodPushesNobodyOut(t *testing.T) {
	waiting := []*Registered{{Key: Key{1}, Addr: "192.0.2.1"}} // the oldest
	l := agents{waiting[0].Key: waiting[0]}
	for i := range maxUnapproved {
		a := &Registered{Key: Key{2, byte(i), byte(i >> 8)}, Addr: fmt.Sprintf("198.51.100.%d", i%250)}
		l[a.Key] = a
		waiting = append(waiting, a)
	}
	for range 10 {
		waiting = l.dropUnapproved(waiting)
	}
	assert.Contains(t, l, Key{1})
	assert.NotContains(t, l, Key{2, 9})
	assert.Contains(t, l, Key{2, 10})
	assert.Len(t, waiting, maxUnapproved-9)
}

// TestNamesThatLookAlike: nor does a blank, the case of letters or another alphabet make a
// name another one.
func TestNamesThatLookAlike(t *testing.T) {
	r := newRegistry(t)
	for i, name := range []string{"NAS", " nas", "NAS\u00a0", "Nas  ", "nas (no key)", "two  words",
		"N\u0410S", "\u039d\u0391S", "\uff2e\uff21\uff33", "\U0001d40d\U0001d41aS", "NAS\u2800", "nas\u0301", "n\u00e1s", "na\u0455", "N\u0332A\u0332S\u0332",
		"\u24c3\u24d0\u24e2", "\U0001f13d\U0001f170\U0001f162", "\u039dA\ua4e2"} {
		_, err := r.enrol(Registered{Key: Key{byte(i + 1)}, Name: name, Joined: time.Now()}, "Map")
		require.NoError(t, err)
	}
	all, err := r.All()
	require.NoError(t, err)
	require.Len(t, all, 18)
	seen, numbered := names{}, 0
	for _, a := range all {
		assert.False(t, seen.has(a.Name), a.Name)
		seen.add(a.Name)
		if strings.Contains(a.Name, "#") {
			numbered++
		}
	}
	assert.Equal(t, 16, numbered, "of those that look like NAS all but one")
	assert.True(t, seen.has("two words"))
	assert.False(t, seen.has("nass"))
	assert.Error(t, r.Rename("two words", "nas"))
	assert.Error(t, r.Rename("two words", "x "))
	assert.NoError(t, r.Rename("two words", "Two Words"))
	assert.Error(t, r.Rename("two words", "n\u0430s"))
	assert.True(t, r.hasName("\tNAS  "))
	assert.True(t, r.hasName("N\u0410\u0405"))
	a, err := r.enrol(Registered{Key: Key{99}, Name: "map", Joined: time.Now()}, "Map")
	require.NoError(t, err)
	assert.Equal(t, "map #2", a.Name)
	_, err = r.Revoke("Two Words")
	require.NoError(t, err)
	_, err = r.Approve("Two Words")
	assert.ErrorContains(t, err, "revoked")
}

// TestLookAlike: the characters of any alphabet that look like others.
func TestLookAlike(t *testing.T) {
	for _, tt := range []struct {
		name   string
		alike  string // names between blanks, which look like the name; _ is a blank
		others string // names that do not
	}{
		{"gen", "GEN g_e_n _gen_ ցen ℊen ᶢen g℮n ɢᴇɴ geɴ gᥱn ǥen ｇｅｎ 𝐠en ⓖen 🄶🅴🅽 🇬🇪🇳 gén ĝeñ gen\u0301 ԍєn ꮐꭼn gen\u00ad", "gem gan hen ge gene g-en пен"},
		{"gen.", "gen․ gen．", "gen gen,"},
		{"map", "ⅿap rnap MAP RNAP ᴍᴀᴘ мар ꓟꓮꓑ ⲙaⲣ", "nap rmap mao"},
		{"alpha1", "alphal alphaI alpha| ALPHAL alphaΙ alphaӀ alphaⅼ alpha１ alpha① аlрhа1", "alpha alpha2 alphai alpha11"},
		{"alphai", "ALPHAI alphaI alphaі alphaı alphaí", "alpha1 alphal alphaj"},
		{"00", "O0 0O OO oo Oо ०o ₀0 Øo", "0 000 80"},
		{"web1", "webl WEB1 vveb1 ѡeb1 ᴡᴇʙ1", "web2 web11 wed1 web"},
		{"сервер", "СЕРВЕР cepвep", "сервис сервер2"},
		{"ΝΑΣ", "νασ", "ναι"},
		{"VIRUS", "virus VIRUЅ vіrus vꓲrus", "virtus"},
		{"名前", "名_前", "名"},
	} {
		for _, as := range []struct {
			want  bool
			names string
		}{{true, tt.alike}, {false, tt.others}} {
			for _, other := range strings.Fields(as.names) {
				other = strings.ReplaceAll(other, "_", " ")
				assert.Equal(t, as.want, lookAlike(tt.name, other), "%q and %q", tt.name, other)
				assert.Equal(t, as.want, lookAlike(other, tt.name), "%q and %q", other, tt.name)
			}
		}
	}
}

// TestNamesOfFleets: numbered names stay different, and none is refused.
func TestNamesOfFleets(t *testing.T) {
	r := newRegistry(t)
	for i, tt := range []struct{ name, want string }{
		{"web1", "web1"}, {"web2", "web2"}, {"web10", "web10"}, {"web11", "web11"}, {"web12", "web12"}, {"web21", "web21"},
		{"webl", "webl #2"}, {"weblO", "weblO #2"}, {"db-0", "db-0"}, {"db-O", "db-O #2"}, {"dbo", "dbo"}, {"modern", "modern"}, {"modem", "modem #2"},
	} {
		a, err := r.enrol(Registered{Key: Key{byte(i + 1)}, Name: tt.name, Joined: time.Now()}, "map")
		require.NoError(t, err)
		assert.Equal(t, tt.want, a.Name)
	}
}

// TestNameLikeAKey: an agent cannot be taken for another one by calling itself as that
// one's key begins.
func TestNameLikeAKey(t *testing.T) {
	r := newRegistry(t)
	key := Key{0xab, 0xcd, 0xef, 0x01, 0x23}
	_, err := r.enrol(Registered{Key: key, Name: "nas", Joined: time.Now(), Waiting: true}, "")
	require.NoError(t, err)
	_, err = r.enrol(Registered{Key: Key{9}, Name: key.String()[:10], Joined: time.Now(), Waiting: true}, "")
	require.NoError(t, err)
	_, err = r.Approve(key.String()[:10])
	assert.ErrorContains(t, err, "another one begins so")
	a, err := r.Approve(key.String()[:12])
	require.NoError(t, err)
	assert.Equal(t, "nas", a.Name)
}

package feed

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/random"
)

// TestFairPoolAgainstNaive: after any members were added and removed the counts are right, and
// each member knows its index.
func TestFairPoolAgainstNaive(t *testing.T) {
	rand := random.For(t)
	var c fairPool[*joiningConn]
	inside := map[*joiningConn]bool{}
	for n := 0; n < 20_000 || len(inside) == 0; n++ {
		if len(inside) == 0 || len(inside) < 100 && rand.IntN(2) == 0 {
			ip := netip.AddrFrom4([4]byte{192, 0, byte(rand.IntN(3)), byte(rand.IntN(4))})
			if rand.IntN(3) == 0 {
				ip = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 5: byte(rand.IntN(2)), 7: byte(rand.IntN(2)), 15: byte(rand.IntN(9))})
			}
			w := &joiningConn{origin: originOfAddr(ip)}
			c.add(w)
			inside[w] = true
			continue
		}
		for w := range inside { // any
			c.remove(w)
			c.remove(w)
			delete(inside, w)
			break
		}
	}
	sources, networks := map[netip.Prefix]int{}, map[netip.Prefix]int{}
	for w := range inside {
		sources[w.source]++
		networks[w.network]++
	}
	assert.Equal(t, sources, c.ofSource)
	assert.Equal(t, networks, c.ofNetwork)
	require.Len(t, c.members, len(inside))
	for i, w := range c.members {
		assert.True(t, inside[w])
		assert.Equal(t, i+1, w.at)
	}
	first := func(a, b *joiningConn) bool { return false }
	crowded := 0
	for _, n := range networks {
		crowded = max(crowded, n)
	}
	most := 0
	for range 1000 {
		most = max(most, networks[c.mostCrowded(first).network])
	}
	assert.Equal(t, crowded, most, "one of the most crowded network is found")
}

// TestManySources: places before joining are shared fairly, and their number is never exceeded.
func TestManySources(t *testing.T) {
	s := &Server{}
	open := func(source string) (*joiningConn, bool) {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		w := newJoining(a)
		w.origin = originOfAddr(netip.MustParseAddr(source))
		return w, s.startJoining(w)
	}
	in := func(w *joiningConn) bool { return w.at != 0 }
	honest, ok := open("198.51.100.1")
	require.True(t, ok)
	var crowd []*joiningConn
	for n := range maxJoining - 1 {
		w, ok := open(fmt.Sprintf("2001:db8::%x", n))
		require.True(t, ok, "there is room")
		crowd = append(crowd, w)
	}
	_, ok = open("2001:db8::ffff")
	assert.False(t, ok, "all of this network have just come")
	other, ok := open("198.51.100.2")
	assert.True(t, ok)
	gone := 0
	for _, w := range crowd {
		if !in(w) {
			gone++
			_, open := <-w.evicted
			assert.False(t, open)
			_, err := w.Conn.Read(make([]byte, 1))
			assert.Error(t, err, "it is closed")
		}
	}
	assert.Equal(t, 1, gone, "one /64 is one source")
	for _, w := range crowd {
		w.since = w.since.Add(-evictAfter)
		w.stage.Store(isHeard)
	}
	if late, ok := open("2001:db8::ffff"); assert.True(t, ok, "others of its source have had their time") {
		assert.True(t, in(late))
	}
	for n := range 3 * maxJoining {
		open(fmt.Sprintf("2001:db8:%x:%x::1", n%3, n))
		assert.LessOrEqual(t, len(s.joiningOthers.members), maxJoining)
	}
	assert.True(t, in(honest), "a source with one connection keeps its place")
	assert.True(t, in(other))
	for n := range 10 * maxJoining { // each from a network of its own
		_, ok := open(netip.AddrFrom4([4]byte{203, byte(n >> 8), byte(n), 1}).String())
		assert.True(t, ok, "each new network gets a place")
	}
	assert.Len(t, s.joiningOthers.members, maxJoining)
	for s.evictJoining() {
	}
	assert.Empty(t, s.joiningOthers.members)
	assert.Empty(t, s.joiningOthers.ofNetwork)
}

// TestMaxJoining: with few file descriptors fewer connections may be joining, but never none.
func TestMaxJoining(t *testing.T) {
	for files, want := range map[int]int{0: maxJoining, 1 << 20: maxJoining, 128: 32, 12: minJoining} {
		assert.Equal(t, want, (&Server{MaxFiles: files}).maxJoining(), files)
	}
	assert.Equal(t, 128-ownFiles-2*minJoining, (&Server{MaxFiles: 128}).maxAgents())
	assert.Equal(t, defaultMaxAgents, (&Server{MaxFiles: 1 << 20}).maxAgents())
}

// TestKnownAddresses: addresses of agents have places of their own besides those of all.
func TestKnownAddresses(t *testing.T) {
	r := newRegistry(t)
	s := &Server{Registry: r}
	for i := range 3 {
		_, err := r.enrol(Registered{Key: Key{byte(i + 1)}, Name: "nas", Addr: fmt.Sprintf("192.0.2.%d", i), Joined: time.Now()}, "")
		require.NoError(t, err)
	}
	come := func(source string) bool {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		w := newJoining(a)
		w.origin = originOfAddr(netip.MustParseAddr(source))
		return s.startJoining(w)
	}
	for range maxJoining {
		require.True(t, come("192.0.2.0"))
	}
	assert.Len(t, s.joiningKnown.members, maxJoining)
	assert.True(t, come("192.0.2.0"), "in a place for all")
	assert.Len(t, s.joiningOthers.members, 1)
	assert.True(t, come("192.0.2.1"), "it has one place of those that the other has")
	assert.Len(t, s.joiningKnown.members, maxJoining)
}

// TestEvictBefore: in one source a connection that has sent nothing is evicted first, and then the
// oldest.
func TestEvictBefore(t *testing.T) {
	now := time.Now()
	silent, older, newer := &joiningConn{since: now}, &joiningConn{since: now}, &joiningConn{since: now.Add(1)}
	older.stage.Store(isHeard)
	newer.stage.Store(isHeard)
	assert.True(t, evictBefore(silent, older))
	assert.False(t, evictBefore(older, silent))
	assert.True(t, evictBefore(older, newer))
	assert.False(t, evictBefore(newer, older))
}

// TestRateAgainstNaive: no source gets more than the maximum within a minute of its first.
func TestRateAgainstNaive(t *testing.T) {
	rand := random.For(t)
	const most, mostOfAll = 3, 8
	var r rate
	type window struct {
		n     int
		until time.Time
	}
	naive := map[netip.Prefix]*window{}
	now := time.Unix(1e9, 0)
	of := func(p netip.Prefix) *window {
		w := naive[p]
		if w == nil || !now.Before(w.until) {
			return &window{until: now.Add(time.Minute)} // from the first that is taken
		}
		return w
	}
	for range 100_000 {
		now = now.Add(time.Duration(rand.Int64N(int64(4 * time.Second))))
		if rand.IntN(500) == 0 {
			now = now.Add(time.Duration(rand.Int64N(int64(5 * time.Minute))))
		}
		p := originOfAddr(netip.AddrFrom4([4]byte{192, 0, 2, byte(rand.IntN(5))})).source
		one, every := of(p), of(allSources)
		want := one.n < most && every.n < mostOfAll
		require.Equal(t, want, r.take(p, most, mostOfAll, now))
		if !want {
			continue
		}
		naive[p], naive[allSources] = one, every
		one.n++
		every.n++
	}
}

// TestRateIsBounded: more sources than are counted do not count at all.
func TestRateIsBounded(t *testing.T) {
	var r rate
	now := time.Now()
	taken := 0
	for n := range 2 * maxCounted {
		ip := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		if r.take(originOfAddr(ip).source, 5, 1<<30, now) {
			taken++
		}
	}
	assert.InDelta(t, maxCounted, taken, 1)
	assert.LessOrEqual(t, len(r.current), maxCounted+1)
	later := now.Add(time.Minute)
	assert.True(t, r.take(originOfAddr(netip.MustParseAddr("192.0.2.1")).source, 5, 1<<30, later), "a minute later there is room again")
}

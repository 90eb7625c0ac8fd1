package names

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/connmapgo/connmap/internal/random"
)

func TestClean(t *testing.T) {
	label := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"example.com": "example.com", "EXAMPLE.com.": "example.com", "_dmarc.Example.com": "_dmarc.example.com",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "nas": "nas", label + ".x": label + ".x",
		"": "", ".": "", "a..b": "", ".a": "", "192.0.2.1": "", "a b": "", "bücher.example": "", "a\x1b[2J": "", label + "a.x": "",
		strings.Repeat("abc.", 64) + "x": "",
	} {
		got, ok := Clean(in)
		assert.Equal(t, want, got, in)
		assert.Equal(t, want != "", ok, in)
	}
	for in, want := range map[string]string{"example.com:8080": "example.com", "example.com": "example.com", "[2001:db8::1]:80": "", "192.0.2.1:80": "", "example.com:x": ""} {
		got, _ := cleanHost(in)
		assert.Equal(t, want, got, in)
	}
}

// answer builds an answer to a question.
func answer(t testing.TB, asked string, records ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}}
	if asked != "" {
		m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName(asked), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
	}
	for _, r := range records {
		if r.Header.Class == 0 {
			r.Header.Class = dnsmessage.ClassINET
		}
		m.Answers = append(m.Answers, r)
	}
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

func record(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), TTL: ttl}, Body: body}
}

func a(addr string) dnsmessage.ResourceBody {
	ip := netip.MustParseAddr(addr)
	if ip.Is4() {
		return &dnsmessage.AResource{A: ip.As4()}
	}
	return &dnsmessage.AAAAResource{AAAA: ip.As16()}
}

func alias(name string) dnsmessage.ResourceBody {
	return &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(name)}
}

func TestParseDNS(t *testing.T) {
	https := &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName(".")}}
	https.SetParam(dnsmessage.SVCParamIPv4Hint, []byte{192, 0, 2, 1, 192, 0, 2, 2})
	hint6 := netip.MustParseAddr("2001:db8::5").As16()
	https.SetParam(dnsmessage.SVCParamIPv6Hint, hint6[:])
	front := &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 0, Target: dnsmessage.MustNewName("cdn.example.")}}
	multicast := record("nas.local.", 120, a("192.0.2.9"))
	multicast.Header.Class = dnsmessage.ClassINET | topBit
	chaos := record("example.com.", 60, a("192.0.2.1"))
	chaos.Header.Class = dnsmessage.ClassCHAOS
	for _, tt := range []struct {
		name string
		data []byte
		want []string // name address seconds
	}{
		{"addresses", answer(t, "Example.COM.", record("example.com.", 60, a("192.0.2.1")), record("EXAMPLE.com.", 30, a("2001:db8::1"))),
			[]string{"example.com 192.0.2.1 60", "example.com 2001:db8::1 30"}},
		{"aliases in any order", answer(t, "www.example.com.", record("edge.cdn.example.", 9, a("192.0.2.1")), record("cdn.example.", 60, alias("edge.cdn.example.")), record("www.example.com.", 60, alias("cdn.example."))),
			[]string{"www.example.com 192.0.2.1 9"}},
		{"an address of another name", answer(t, "example.com.", record("bank.example.", 60, a("192.0.2.1"))), []string{}},
		{"a loop", answer(t, "a.example.", record("a.example.", 1, alias("b.example.")), record("b.example.", 1, alias("a.example."))), []string{}},
		{"a filter's answer", answer(t, "ads.example.", record("ads.example.", 60, a("0.0.0.0")), record("ads.example.", 60, a("::"))), []string{}},
		{"mapped", answer(t, "a.example.", record("a.example.", 60, a("::ffff:192.0.2.1"))), []string{"a.example 192.0.2.1 60"}},
		{"hints", answer(t, "a.example.", record("a.example.", 60, https)), []string{"a.example 192.0.2.1 60", "a.example 192.0.2.2 60", "a.example 2001:db8::5 60"}},
		{"an alias of HTTPS", answer(t, "a.example.", record("a.example.", 60, front), record("cdn.example.", 5, a("192.0.2.3"))), []string{"a.example 192.0.2.3 5"}},
		{"mDNS", answer(t, "", multicast, record("bad name.local.", 120, a("192.0.2.8"))), []string{"nas.local 192.0.2.9 120"}},
		{"another class", answer(t, "example.com.", chaos), []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, ok := ParseDNS(tt.data)
			require.True(t, ok)
			assert.True(t, m.Response)
			assert.EqualValues(t, 7, m.ID)
			got := []string{}
			for _, a := range m.Addresses {
				got = append(got, fmt.Sprintf("%s %v %d", a.Name, a.Addr, a.TTL/time.Second))
			}
			assert.Equal(t, tt.want, got)
			for n := range tt.data {
				ParseDNS(tt.data[:n])
			}
		})
	}
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: 9}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}}}
	b, err := query.Pack()
	require.NoError(t, err)
	m, ok := ParseDNS(b)
	assert.True(t, ok)
	assert.Equal(t, Message{ID: 9, Type: uint16(dnsmessage.TypeAAAA), Name: "example.com"}, m)
	_, ok = ParseDNS([]byte("GET / HTTP/1.1\r\n\r\n"))
	assert.False(t, ok)
}

// hello returns what crypto/tls sends first.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go tls.Client(client, c).HandshakeContext(t.Context())
	defer client.Close()
	defer server.Close()
	b := make([]byte, 64<<10)
	n, err := server.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// TestTLS: the name is found however the ClientHello is split, into segments and into records.
func TestTLS(t *testing.T) {
	b := hello(t, &tls.Config{ServerName: "www.Example.com", InsecureSkipVerify: true})
	require.Greater(t, len(b), 1400, "it has a post-quantum key share")
	want := Name{"www.example.com", SNI, false}
	feed := func(parts ...[]byte) (n Name, more bool) {
		var o Openings
		seq := uint32(1<<32 - 100) // which wraps around
		more = true
		for i, p := range parts {
			require.True(t, more)
			n, more = o.TCP(5, i == 0, seq, p)
			seq += uint32(len(p))
		}
		assert.Zero(t, o.tcp.len())
		return n, more
	}
	n, more := feed(b)
	assert.Equal(t, want, n)
	assert.False(t, more)
	for cut := 1; cut < len(b); cut++ {
		n, _ = feed(b[:cut], b[cut:])
		require.Equal(t, want, n, cut)
	}
	var single [][]byte
	for i := range b {
		single = append(single, b[i:i+1])
	}
	n, _ = feed(single...)
	assert.Equal(t, want, n)
	// Two records, and one for each byte.
	for _, size := range []int{1, 700} {
		var split []byte
		for part := range chunks(b[recordHeader:], size) {
			split = append(split, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
			split = append(split, part...)
		}
		n, _ = feed(split)
		assert.Equal(t, want, n)
	}
	// Segments in another order, and twice.
	var o Openings
	for i, part := range []struct{ from, to int }{{0, 10}, {900, 1200}, {5, 400}, {0, 10}, {1100, len(b)}} {
		n, more = o.TCP(1, i == 0, uint32(part.from), b[part.from:part.to])
		require.True(t, more)
		require.Empty(t, n)
	}
	n, more = o.TCP(1, false, 380, b[380:950])
	assert.Equal(t, want, n)
	assert.False(t, more)
	// What comes after it is no other beginning, but that of a new connection is.
	other := hello(t, &tls.Config{ServerName: "other.example", InsecureSkipVerify: true})
	n, more = o.TCP(1, false, uint32(len(b)), other)
	assert.Equal(t, []any{Name{}, false}, []any{n, more})
	n, _ = o.TCP(1, true, 7, other)
	assert.Equal(t, "other.example", n.Name)

	for name, data := range map[string][]byte{
		"no name":       hello(t, &tls.Config{InsecureSkipVerify: true}),
		"an address":    hello(t, &tls.Config{ServerName: "192.0.2.1", InsecureSkipVerify: true}),
		"an alert":      {21, 3, 3, 0, 2, 1, 0},
		"a ServerHello": {22, 3, 3, 0, 4, 2, 0, 0, 0},
		"ssh":           []byte("SSH-2.0-OpenSSH_9.2\r\n"),
		"too large":     {22, 3, 3, 0x40, 0, 1, 1, 0, 0},
	} {
		n, more := new(Openings).TCP(1, true, 0, data)
		assert.Empty(t, n, name)
		assert.False(t, more, name)
	}
}

func chunks(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// TestHTTP: the name is that of the Host, for what Go's client sends and for odd requests.
func TestHTTP(t *testing.T) {
	r, err := http.NewRequest("POST", "http://Example.com:8080/path", strings.NewReader("body"))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, r.Write(&b))
	for text, want := range map[string]string{
		b.String():                              "example.com",
		"GET / HTTP/1.1\nhost:  a.example \n\n": "a.example",
		"OPTIONS * HTTP/1.1\r\nX: 1\r\nHOST: a.example\r\n\r\n":                           "a.example",
		"GET / HTTP/1.0\r\n\r\n":                                                          "",
		"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n":                                       "",
		"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n":                       "",
		"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n":                   "",
		"GET / FOO\r\nHost: a.example\r\n\r\n":                                            "",
		"GETTING somewhere\r\n":                                                           "",
		"GET / HTTP/1.1\r\n" + strings.Repeat("A: "+strings.Repeat("b", 100)+"\r\n", 100): "",
	} {
		n, more := new(Openings).TCP(1, true, 0, []byte(text))
		assert.Equal(t, want, n.Name, text)
		assert.False(t, more, text)
	}
	var o Openings
	for i, c := range []byte("PATCH /a HTTP/1.1\r\nHost: a.example\r\n") {
		n, more := o.TCP(1, i == 0, uint32(i), []byte{c})
		assert.Equal(t, c != '\n' || i < 30, more)
		if !more {
			assert.Equal(t, Name{"a.example", HTTP, false}, n)
		}
	}
}

// TestQUICKeys: the keys are those of RFC 9001, appendix A.1 and A.2, and RFC 9369, appendix A.1.
func TestQUICKeys(t *testing.T) {
	text := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	dcid := text("8394c8f03e515708")
	keys, err := initialKeys(quicVersions[1], dcid)
	require.NoError(t, err)
	assert.Equal(t, "fa044b2f42a3fd3b46fb255c", hex.EncodeToString(keys.iv))
	mask := make([]byte, 16)
	keys.header.Encrypt(mask, text("d1b1c98dd7689fb8ec11d242b123dc9b"))
	assert.Equal(t, "437b9aec36", hex.EncodeToString(mask[:5]))
	keys, err = initialKeys(quicVersions[0x6b3343cf], dcid)
	require.NoError(t, err)
	assert.Equal(t, "91f73e2351d8fa91660e909f", hex.EncodeToString(keys.iv))
}

// quicClient returns the datagrams that quic-go sends first to a server that does not answer.
func quicClient(t testing.TB, name string, version quic.Version) (sent [][]byte) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go quic.DialAddr(ctx, server.LocalAddr().String(), &tls.Config{ServerName: name, NextProtos: []string{"h3"}, InsecureSkipVerify: true}, &quic.Config{Versions: []quic.Version{version}})
	server.SetReadDeadline(time.Now().Add(10 * time.Second))
	var o Openings
	for {
		b := make([]byte, 2000)
		n, _, err := server.ReadFrom(b)
		require.NoError(t, err)
		sent = append(sent, b[:n])
		if got, _ := o.UDP(1, netip.AddrPort{}, b[:n]); got.Name != "" {
			return sent
		}
	}
}

// TestQUIC: the name is found in what quic-go sends, of both versions, in any order.
func TestQUIC(t *testing.T) {
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	for _, version := range []quic.Version{quic.Version1, quic.Version2} {
		t.Run(version.String(), func(t *testing.T) {
			sent := quicClient(t, "quic.Example.com", version)
			t.Logf("%d datagrams", len(sent))
			rand := random.For(t)
			for range 10 {
				rand.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
				var o Openings
				var got Name
				for _, b := range sent {
					if n, _ := o.UDP(1, peer, b); n.Name != "" {
						got = n
					}
				}
				assert.Equal(t, Name{"quic.example.com", QUIC, false}, got)
			}
			damaged := bytes.Clone(sent[0])
			damaged[len(damaged)-1] ^= 1
			n, _ := new(Openings).UDP(1, peer, damaged)
			assert.Empty(t, n)
		})
	}
}

// TestTable: an answer counts only on the socket that asked, first for its process, then for the
// host, and not for ever.
func TestTable(t *testing.T) {
	var table Table
	now := time.Now()
	const curl, ssh = PID(10), PID(11)
	server := netip.MustParseAddrPort("192.0.2.53:53")
	ask := func(id uint16, name string) []byte {
		b, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: id}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}).Pack()
		require.NoError(t, err)
		return b
	}
	reply := answer(t, "a.example.", record("a.example.", 60, a("192.0.2.1")))
	peer := netip.MustParseAddr("192.0.2.1")
	table.Read(1, curl, false, server, reply, now)
	var ever time.Time
	find := func(who PID, addr netip.Addr, now time.Time) (Name, bool) {
		return table.Lookup(who, addr, ever, now, now)
	}
	_, ok := find(curl, peer, now)
	assert.False(t, ok, "nobody has asked")
	table.Read(1, curl, true, server, ask(8, "a.example."), now)
	table.Read(1, curl, true, server, ask(7, "b.example."), now)
	table.Read(2, curl, true, server, ask(7, "a.example."), now)
	table.Read(1, curl, false, server, reply, now)
	_, ok = find(curl, peer, now)
	assert.False(t, ok, "with another ID, for another name, on another socket")
	table.Read(2, ssh, false, server, reply, now)
	n, _ := find(curl, peer, now)
	assert.Equal(t, Name{"a.example", DNS, false}, n, "who asked, not who the socket's owner is now")
	_, ok = find(ssh, peer, now)
	assert.False(t, ok)
	n, _ = find(0, peer, now)
	assert.Equal(t, Name{"a.example", Host, false}, n)
	assert.True(t, table.Asked(curl, "a.example", now))
	assert.False(t, table.Asked(ssh, "a.example", now), "another process")
	assert.False(t, table.Asked(curl, "b.example", now), "without an answer")
	_, ok = find(curl, peer, now.Add(time.Hour))
	assert.False(t, ok)
	assert.False(t, table.Asked(curl, "a.example", now.Add(time.Hour)))
	_, ok = table.Lookup(curl, peer, ever, now.Add(-1), now)
	assert.False(t, ok, "before it was learnt")
	_, ok = table.Lookup(curl, peer, now.Add(1), now.Add(1), now)
	assert.False(t, ok, "of an earlier process")

	// An answer from another address, to a question of another type, or one that is not whole, does
	// not end the question. Of the last, what can be read counts.
	other := netip.MustParseAddrPort("198.51.100.1:53")
	c := func(addr string) string {
		n, _ := find(curl, netip.MustParseAddr(addr), now)
		return n.Name
	}
	good := answer(t, "c.example.", record("c.example.", 60, a("192.0.2.3")))
	six := bytes.Clone(good)
	six[len("c.example.")+1+12+1] = byte(dnsmessage.TypeAAAA)
	cut := answer(t, "c.example.", record("c.example.", 60, a("192.0.2.4")), record("c.example.", 60, a("192.0.2.5")))
	table.Read(2, curl, true, server, ask(7, "c.example."), now)
	table.Read(2, curl, false, other, good, now)
	assert.Empty(t, c("192.0.2.3"), "nobody has asked there")
	table.Read(2, curl, false, server, six, now)
	assert.Empty(t, c("192.0.2.3"), "of another type")
	table.Read(2, curl, false, server, cut[:len(cut)-3], now)
	assert.Equal(t, []string{"c.example", ""}, []string{c("192.0.2.4"), c("192.0.2.5")})
	loop := bytes.Clone(good)
	copy(loop[len("c.example.")+1+12+4:], "\xc0\x1b") // the record's name refers to itself
	table.Read(2, curl, false, server, loop, now)
	table.Read(2, curl, false, server, good, now)
	assert.Equal(t, "c.example", c("192.0.2.3"))
	table.Read(2, curl, false, server, answer(t, "c.example.", record("c.example.", 60, a("192.0.2.67"))), now)
	assert.Empty(t, c("192.0.2.67"), "the answer has come")

	// Over TCP the address of the server may be another on the way there.
	over := func(sent bool, peer netip.AddrPort, message []byte) {
		table.ReadTCP(9, curl, sent, sent, peer, 1, append([]byte{byte(len(message) >> 8), byte(len(message))}, message...), now)
	}
	over(true, other, ask(7, "d.example."))
	over(false, server, answer(t, "d.example.", record("d.example.", 60, a("192.0.2.68"))))
	assert.Equal(t, "d.example", c("192.0.2.68"))

	// In mDNS, what a socket asks for in .local counts, as often as it is answered.
	group, nas := netip.MustParseAddrPort("224.0.0.251:5353"), netip.MustParseAddrPort("192.0.2.9:5353")
	says := func(name, addr string) string {
		table.Read(3, ssh, false, nas, answer(t, "", record(name, 120, a(addr))), now)
		n, ok := find(0, netip.MustParseAddr(addr), now)
		assert.Equal(t, ok, n.Source == Host)
		return n.Name
	}
	assert.Empty(t, says("nas.local.", "192.0.2.9"), "nobody has asked")
	b, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName("printer.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		{Name: dnsmessage.MustNewName("NAS.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET | topBit},
		{Name: dnsmessage.MustNewName("bank.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
	}}).Pack()
	require.NoError(t, err)
	table.Read(3, ssh, true, group, b, now)
	assert.Equal(t, "nas.local", says("nas.local.", "192.0.2.9"))
	assert.Equal(t, "nas.local", says("nas.local.", "192.0.2.10"))
	assert.Equal(t, "printer.local", says("printer.local.", "192.0.2.11"))
	assert.Empty(t, says("bank.example.", "192.0.2.12"), "not in .local")
	assert.Empty(t, says("other.local.", "192.0.2.13"))
}

// TestTableIsBounded: a hostile resolver drops old names, which are counted, and takes little memory.
func TestTableIsBounded(t *testing.T) {
	var table Table
	now := time.Now()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	long := strings.Repeat("a.very.long.name.", 10)
	for i := range 100_000 {
		table.learn(1, []Address{{Name: fmt.Sprint(long, i), Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}}, now)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d kB, %d dropped", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10, table.Dropped())
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(16<<20))
	assert.GreaterOrEqual(t, table.Dropped(), uint64(100_000-maxLearnt))
	runtime.KeepAlive(&table)
}

// TestOpeningsAreBounded: connections that never say enough do not stay.
func TestOpeningsAreBounded(t *testing.T) {
	var o Openings
	for i := range uint64(20_000) {
		_, more := o.TCP(i, true, 0, []byte{recordHandshake, 3, 1, 0x20, 0, 1, 0, 0x1f})
		require.True(t, more)
	}
	assert.LessOrEqual(t, o.tcp.len(), maxStreams)
	assert.Greater(t, o.tcp.dropped, uint64(18_000))
	big := make([]byte, 4000)
	copy(big, []byte{recordHandshake, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc})
	more, at := true, uint32(0)
	for ; more; at += 4000 {
		_, more = o.TCP(1<<40, at == 0, at, big)
	}
	assert.LessOrEqual(t, at, uint32(maxStream+2*4000))
}

func FuzzDNS(f *testing.F) {
	f.Add(answer(f, "a.example.", record("a.example.", 60, alias("b.example.")), record("b.example.", 60, a("192.0.2.1"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := ParseDNS(b)
		if !ok {
			return
		}
		for _, a := range m.Addresses {
			_, ok := Clean(a.Name)
			assert.True(t, ok, "%q", a.Name)
			assert.True(t, isPeer(a.Addr))
		}
		assert.LessOrEqual(t, len(m.Addresses), maxRecords)
	})
}

// FuzzTCP: however the beginning of a connection is split, its name is the same.
func FuzzTCP(f *testing.F) {
	f.Add(hello(f, &tls.Config{ServerName: "www.example.com"}), 10)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), 7)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if len(b) > maxStream || len(b) == 0 {
			return
		}
		want, wantMore := new(Openings).TCP(1, true, 0, b)
		var o Openings
		got, more, at := Name{}, true, 0
		for part := range chunks(b, max(1, size)) {
			if got, more = o.TCP(1, at == 0, uint32(at), part); !more {
				break
			}
			at += len(part)
		}
		if !more && got.Name == "" && want.Name == "" {
			return
		}
		require.Equal(t, want, got)
		require.Equal(t, wantMore, more)
		if got.Name != "" {
			_, ok := Clean(got.Name)
			require.True(t, ok)
		}
	})
}

func FuzzUDP(f *testing.F) {
	for _, b := range quicClient(f, "www.example.com", quic.Version1) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { new(Openings).UDP(1, netip.AddrPort{}, b) })
}

func BenchmarkDNS(b *testing.B) {
	m := answer(b, "www.example.com.", record("www.example.com.", 60, alias("cdn.example.")), record("cdn.example.", 60, a("192.0.2.1")), record("cdn.example.", 60, a("192.0.2.2")))
	b.ReportAllocs()
	for b.Loop() {
		ParseDNS(m)
	}
}

func BenchmarkTLS(b *testing.B) {
	h := hello(b, &tls.Config{ServerName: "www.example.com"})
	var o Openings
	b.ReportAllocs()
	for b.Loop() {
		o.TCP(1, true, 0, h)
	}
}

func BenchmarkQUIC(b *testing.B) {
	sent := quicClient(b, "www.example.com", quic.Version1)
	var o Openings
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range sent {
			o.UDP(1, netip.AddrPort{}, d)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(sent)), "us/packet")
}

package conntrack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// selfSigned returns a certificate that nobody trusts.
func selfSigned(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// addressOf is what the resolver of these tests answers for a name that begins with a letter and a
// number.
func addressOf(name string) [4]byte {
	var n uint16
	fmt.Sscanf(name[1:], "%d", &n)
	return [4]byte{198, 18, byte(n >> 8), byte(n)}
}

// resolve answers a question, over an alias.
func resolve(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	if q.Type == dnsmessage.TypeA {
		alias := dnsmessage.MustNewName("cdn.example.")
		m.Answers = []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.CNAMEResource{CNAME: alias}},
			{Header: dnsmessage.ResourceHeader{Name: alias, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: addressOf(q.Name.String())}},
		}
	}
	b, _ := m.Pack()
	return b
}

// serveNames runs servers of DNS (53, UDP and TCP), TLS (8443), QUIC (4433) and HTTP (8080) at an
// address, and one that accepts anything at 9000 of all addresses.
func serveNames(t testing.TB, at string) {
	udp, err := net.ListenPacket("udp", at+":53")
	require.NoError(t, err)
	t.Cleanup(func() { udp.Close() })
	go func() {
		for b := make([]byte, 2000); ; {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			if a := resolve(b[:n]); a != nil {
				udp.WriteTo(a, from)
			}
		}
	}()
	serve := func(l net.Listener, do func(net.Conn)) {
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); do(c) }()
			}
		}()
	}
	serve(listen(t, at+":53"), func(c net.Conn) {
		for {
			var n uint16
			if binary.Read(c, binary.BigEndian, &n) != nil {
				return
			}
			b := make([]byte, n)
			io.ReadFull(c, b)
			a := resolve(b)
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}
	})
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, NextProtos: []string{"h3"}}
	serve(tls.NewListener(listen(t, at+":8443"), &tls.Config{Certificates: config.Certificates}), func(c net.Conn) { io.Copy(io.Discard, c) })
	serve(listen(t, at+":8080"), func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, c)
		}
	})
	serve(listen(t, ":9000"), func(c net.Conn) { io.Copy(io.Discard, c) })
	q, err := quic.ListenAddr(at+":4433", config, nil)
	require.NoError(t, err)
	t.Cleanup(func() { q.Close() })
	go func() {
		for {
			if _, err := q.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
}

// TestPeerNames: each connection gets the name that its program asked for, by DNS, TLS, QUIC and HTTP.
func TestPeerNames(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	out, err := exec.Command("ip", "addr", "add", "198.18.0.1/15", "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	const server, each = "203.0.113.10", 100
	serveNames(t, server)
	c := ebpfOrSkip(t, Options{Names: true}, 0)
	got := make(chan Conn, 100_000)
	follow(t, c, func(e Event) {
		if e.Kind == Close {
			got <- e.Conn
		}
	})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server+":53")
	}}
	overTCP := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server+":53")
	}}
	skip := &tls.Config{InsecureSkipVerify: true}
	connect := map[NameSource]func(name string){
		NameSNI: func(name string) {
			config := skip.Clone()
			config.ServerName = name
			conn, err := tls.Dial("tcp", server+":8443", config)
			require.NoError(t, err)
			conn.Close()
		},
		NameQUIC: func(name string) {
			config := &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"h3"}}
			dialCtx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			q, err := quic.DialAddr(dialCtx, server+":4433", config, nil)
			require.NoError(t, err)
			q.CloseWithError(0, "")
		},
		NameHTTP: func(name string) {
			plain, err := net.Dial("tcp", server+":8080")
			require.NoError(t, err)
			fmt.Fprintf(plain, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name)
			_, err = http.ReadResponse(bufio.NewReader(plain), nil)
			require.NoError(t, err)
			plain.Close()
		},
		NameDNS: func(name string) {
			r := resolver
			if strings.Contains(name, ".tcp.") {
				r = overTCP
			}
			addrs, err := r.LookupNetIP(t.Context(), "ip4", name+".")
			require.NoError(t, err)
			require.Equal(t, netip.AddrFrom4(addressOf(name)), addrs[0].Unmap())
			conn, err := net.Dial("tcp", addrs[0].Unmap().String()+":9000")
			require.NoError(t, err)
			conn.Close()
		},
	}
	want := map[string]NameSource{}
	for i := range each {
		want[fmt.Sprintf("t%d.tls.example", i)] = NameSNI
		want[fmt.Sprintf("q%d.quic.example", i)] = NameQUIC
		want[fmt.Sprintf("h%d.http.example", i)] = NameHTTP
		want[fmt.Sprintf("d%d.%s.example", i, []string{"dns", "tcp"}[i%2])] = NameDNS
	}
	// Flows of QUIC close when they are idle: they are looked for among those that are open.
	found := map[string]NameSource{}
	owners := map[string]bool{}
	add := func(c Conn) {
		if _, ok := want[c.Name]; ok { // others are of other programs on this machine
			assert.Equal(t, Out, c.Direction)
			found[c.Name] = c.NameSource
			owners[c.Process.Comm] = true
		}
	}
	// All of this machine have one ring of events: where others fill it, names are lost, and counted.
	for try, before := 1, uint64(0); len(found) < len(want); try++ {
		for name, source := range want {
			if found[name] == 0 {
				connect[source](name)
			}
		}
		for end := time.Now().Add(20 * time.Second); len(found) < len(want) && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			for len(got) > 0 {
				add(<-got)
			}
			for _, c := range snapshot(t, c) {
				add(c)
			}
		}
		unnamed := c.Info().Unnamed
		if len(found) < len(want) {
			t.Logf("%d names of %d, %d lost", len(found), len(want), unnamed-before)
			require.Greater(t, unnamed, before, "what is lost is counted")
			require.Less(t, try, 10)
		}
		before = unnamed
	}
	assert.Equal(t, want, found)
	assert.Len(t, owners, 1, "%v", owners)
}

// TestForgottenNamesAreTold: at most once in an hour, and only when there are more.
func TestForgottenNamesAreTold(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	now := time.Now()
	var n peerNames
	for _, c := range []struct {
		forgotten uint64
		after     time.Duration
		told      bool
	}{{0, 0, false}, {5, 0, true}, {9, time.Minute, false}, {9, time.Hour, true}, {9, 2 * time.Hour, false}} {
		out.Reset()
		n.tell(log, c.forgotten, now.Add(c.after))
		assert.Equal(t, c.told, strings.Contains(out.String(), fmt.Sprintf("forgotten=%d", c.forgotten)), "%+v", c)
	}
}

// TestPeerNamesOff: without names, no payload of a packet comes out of the kernel.
func TestPeerNamesOff(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const server = "203.0.113.10"
	serveNames(t, server)
	c := ebpfOrSkip(t, Options{}, 0)
	conn, err := tls.Dial("tcp", server+":8443", &tls.Config{InsecureSkipVerify: true, ServerName: "secret.example"})
	require.NoError(t, err)
	defer conn.Close()
	time.Sleep(200 * time.Millisecond)
	for _, c := range snapshot(t, c) {
		assert.Empty(t, c.Name)
	}
}

// BenchmarkNames is what names add to the processor time of traffic and of its collector, in turns with
// and without: bulk TCP, datagrams of 1,400 bytes, and short connections that name their peer.
func BenchmarkNames(b *testing.B) {
	pairs, scale := 9, 1
	if testing.Short() {
		pairs, scale = 1, 50
	}
	ebpfOrSkip(b, Options{}, 0).Close()
	for name, traffic := range map[string]func(n int){
		"tcp": func(n int) {
			l := listen(b, testAddr.String()+":0")
			client, server := pair(b, l, l.Addr().String(), net.Dialer{})
			go func() {
				defer client.Close()
				block := make([]byte, 64<<10)
				for range 40_000 / n {
					client.Write(block)
				}
			}()
			io.Copy(io.Discard, server)
		},
		"udp": func(n int) {
			l, err := net.ListenPacket("udp", testAddr.String()+":0")
			require.NoError(b, err)
			defer l.Close()
			c, err := net.Dial("udp", l.LocalAddr().String())
			require.NoError(b, err)
			defer c.Close()
			datagram := make([]byte, 1400)
			for range 400_000 / n {
				c.Write(datagram)
				l.ReadFrom(datagram)
			}
		},
		"connections": func(n int) {
			l := listen(b, testAddr.String()+":0")
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						c.Read(make([]byte, 1000))
						c.Close()
					}()
				}
			}()
			for i := range 10_000 / n {
				c, err := net.Dial("tcp", l.Addr().String())
				require.NoError(b, err)
				fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h%d.http.example\r\n\r\n", i%1000)
				c.Read(make([]byte, 1))
				c.Close()
			}
			l.Close()
		},
	} {
		b.Run(name, func(b *testing.B) {
			hold(b, 0) // a network of its own
			for b.Loop() {
				var ratios []float64
				took := func(names bool) time.Duration {
					c, err := New(Options{Backend: EBPF, Names: names})
					require.NoError(b, err)
					ctx, cancel := context.WithCancel(b.Context())
					var following sync.WaitGroup
					following.Go(func() {
						for range c.Events(ctx) {
						}
					})
					defer func() { cancel(); following.Wait(); c.Close() }()
					snapshot(b, c)
					begin := cpu(b)
					traffic(scale)
					snapshot(b, c) // after all events
					return cpu(b) - begin
				}
				for range pairs {
					ratios = append(ratios, float64(took(true))/float64(took(false)))
				}
				slices.Sort(ratios)
				b.Logf("%.3f", ratios)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(ratios[pairs/2], "cpu-on/off")
			}
		})
	}
}

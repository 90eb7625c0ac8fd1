package feed

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

func FuzzParseToken(f *testing.F) {
	f.Add("cm1_ewdRFOjzn3ChNeblMURnjbOUJ-_pbuNOYN_94SCeHVxDLL9T")
	f.Add("cm1_")
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := ParseToken(s); err == nil && token.String() != strings.TrimSpace(s) {
			t.Fatalf("%q reads back as %q", s, token)
		}
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"ssh", "\x1b[31mred", "a\u202eb", "\xff\xfe", strings.Repeat("é", 300), "a\u200bb\nc\u2028d", strings.Repeat("\u202e", 2000) + "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if len(got) > frame.MaxText || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Fatalf("%q became %q", s, got)
		}
		if clean(got) != got {
			t.Fatalf("cleaning %q again changes it", got)
		}
	})
}

func frameSeeds() (seeds [][]byte) {
	conns, events, run := []conntrack.Conn{testConn(1, 2)}, closes(1, 1), frame.Run{1}
	for _, f := range []frame.Frame{
		frame.Full{Seq: 1, Conns: conns}, frame.Delta{Seq: 2, Events: events, Lost: 1},
		frame.Hello{Version: 1, Name: "nas", Run: run, Limited: "x"},
		frame.Welcome{Version: 1, MaxConns: 9, Acks: true, Last: 7},
		frame.Full{Seq: 3, More: true, Conns: conns}, frame.Ping{}, byeFrame{Code: 1}, proofFrame{Proof: make([]byte, 32)}, frame.Ack{Seq: 2},
		frame.Ask{Run: run}, frame.Answer{Run: run, Number: 3}, frame.Delta{Seq: 4, Events: events, Lost: 1, Run: run, Number: 5},
	} {
		var b bytes.Buffer
		frame.Write(&b, f)
		seeds = append(seeds, b.Bytes()[4:])
	}
	return seeds
}

// framed puts lengths before messages, each of which begins with its own as a byte or, if
// that is zero, takes the rest.
func framedAll(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := int(b[0])
		if b = b[1:]; n == 0 || n > len(b) {
			n = len(b)
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(n)), b[:n]...)
		b = b[n:]
	}
	return out
}

func addLinkSeeds(f *testing.F) {
	var all []byte
	for _, s := range frameSeeds() {
		f.Add(append([]byte{0}, s...), true)
		all = append(append(all, byte(len(s))), s...)
	}
	f.Add(all, true)
	f.Add([]byte{0, 4, 0, 1, 1, 1}, false)
	f.Add(framedAll([]byte("\x02\x81\x06\x03\x82\x08\x05")), false)
}

// An observer is a Handler that fails if it receives what cannot be.
type observer struct {
	t      *testing.T
	joined bool
}

func (w *observer) Join(Agent)  { w.joined = true }
func (w *observer) Leave(Agent) { w.joined = false }
func (w *observer) Full(_ Agent, conns []conntrack.Conn) {
	for _, c := range conns {
		w.check(c)
	}
}

func (w *observer) Delta(_ Agent, events []conntrack.Event) {
	for _, e := range events {
		if e.Kind != conntrack.Lost {
			w.check(e.Conn)
		}
	}
}

func (w *observer) check(c conntrack.Conn) {
	if !w.joined || !c.Local.IsValid() || !c.Peer.IsValid() || !c.Equal(frame.Clean(c)) {
		w.t.Errorf("told of %+v", c)
	}
}

// FuzzServer is an agent that has the token and sends anything.
func FuzzServer(f *testing.F) {
	addLinkSeeds(f)
	id, err := LoadIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, Certificates: []tls.Certificate{id.cert}}
	f.Fuzz(func(t *testing.T, b []byte, frames bool) {
		if frames {
			b = framedAll(b)
		}
		w := &observer{t: t}
		s := &Server{Identity: id, Handler: w}
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			waiting := newJoining(far)
			s.startJoining(waiting)
			s.accept(waiting, config, slog.New(slog.DiscardHandler))
			far.Close()
		}()
		l := &connector{Client: &Client{Token: id.Token()}, table: newTable(t)}
		conn, _, err := l.securelyGreet(near)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			// What the server answers is read, or it could not answer.
			var buf [1024]byte
			for {
				if _, err := conn.Read(buf[:]); err != nil {
					return
				}
			}
		}()
		conn.Write(b)
		near.Close()
		<-served
		if w.joined || len(s.links) > 0 || s.total.Load() != 0 {
			t.Fatal("something is left of an agent that has gone")
		}
	})
}

// FuzzClient is a server that sends anything.
func FuzzClient(f *testing.F) {
	addLinkSeeds(f)
	id, err := LoadIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}}
	f.Fuzz(func(t *testing.T, b []byte, frames bool) {
		if frames {
			b = framedAll(b)
		}
		near, far := net.Pipe()
		go func() {
			conn := tls.Server(far, server)
			if conn.Handshake() == nil {
				conn.Write(b)
			}
			far.Close()
		}()
		conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		table := newTable(t)
		r := table.Report(frame.Welcome{MaxConns: 10, Acks: true}, func(frame.Frame) error { return nil })
		table.Add(closes(1, 1)[0])
		if err := r.Flush(time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := (&clientSession{conn: conn, reporter: r}).listen(); err == nil {
			t.Fatal("it does not end")
		}
		near.Close()
	})
}

func FuzzParseCertificate(f *testing.F) {
	id, err := LoadIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id.cert.Certificate[0])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("LS0tLS1CRUdJTg=="))
	f.Fuzz(func(t *testing.T, b []byte) {
		if cert, err := ParseCertificate(b); (cert == nil) != (err != nil) {
			t.Fatal(cert, err)
		}
	})
}

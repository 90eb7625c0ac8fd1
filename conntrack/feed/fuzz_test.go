package feed

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
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
		if len(got) > mostText || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Fatalf("%q became %q", s, got)
		}
		if clean(got) != got {
			t.Fatalf("cleaning %q again changes it", got)
		}
	})
}

func frameSeeds() (seeds [][]byte) {
	conns, closes, run := []conntrack.Conn{testConn(1, 2)}, ended(1, 1), [runLen]byte{1}
	for _, f := range []frame{
		fullFrame{Seq: 1, Conns: conns}, deltaFrame{Seq: 2, Events: closes, Lost: 1},
		helloFrame{Version: 1, Name: "nas", Run: make([]byte, runLen), Limited: "x"},
		proofFrame{Proof: make([]byte, 32)}, welcomeFrame{Version: 1, MaxConns: 9, Acks: true, Last: 7},
		fullFrame{Seq: 3, More: true, Conns: conns}, pingFrame{}, byeFrame{Code: 1}, ackFrame{Seq: 2},
		askFrame{Run: run[:]}, answerFrame{Run: run[:], Number: 3}, deltaFrame{Seq: 4, Events: closes, Lost: 1, Run: run, Number: 5},
	} {
		var b bytes.Buffer
		writeFrame(&b, f)
		seeds = append(seeds, b.Bytes()[4:])
	}
	return seeds
}

func FuzzFrames(f *testing.F) {
	for _, s := range frameSeeds() {
		f.Add(s)
	}
	f.Add([]byte{0x84, 4, 1, 0xf4, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := clock{now: time.UnixMicro(time.Now().UnixMicro()), skew: time.Hour}
		check := func(conn conntrack.Conn) {
			if !conn.Peer.IsValid() || !conn.Local.IsValid() || conn.Peer.Addr().Is4In6() || conn.Local.Addr().Is4In6() || conn.Opened.After(c.now) ||
				conn.Process != CleanProcess(conn.Process) || conn.RTT < 0 {
				t.Fatalf("%+v", conn)
			}
		}
		kind, _, err := (&frameReader{r: bytes.NewReader(b)}).next(maxGreeting)
		if err == nil && kind > 0x17 {
			t.Fatalf("frame of type %d", kind)
		}
		// What it is of is what its type says, but also what others say.
		_, body, err := (&frameReader{r: bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))}).next(maxFrame)
		if err != nil {
			return
		}
		for _, t := range []frameType{typeDelta, typeResend} {
			_, rows, err := decodeDelta(t, body)
			if err != nil {
				continue
			}
			events, err := decodeEvents(rows, c)
			if err == nil {
				for _, e := range events {
					check(e.Conn)
				}
			}
		}
		var full fullBody[cbor.RawMessage]
		if decode(body, &full) == nil {
			conns, err := appendConns(nil, full.Rows, c)
			if err == nil {
				for _, conn := range conns {
					check(conn)
				}
				rows := make([]row, len(conns))
				for i := range conns {
					rows[i] = rowOf(&conns[i])
				}
				raw, err := cbor.Marshal(rows)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := appendConns(nil, raw, clock{now: c.now}); err != nil || !slices.EqualFunc(again, conns, conntrack.Conn.Equal) {
					t.Fatalf("%v: %+v became %+v", err, conns, again)
				}
			}
		}
		for _, f := range []any{new(helloFrame), new(welcomeFrame), new(byeFrame), new(proofFrame), new(ackFrame), new(pingFrame), new(askFrame), new(answerFrame)} {
			decode(body, f)
		}
	})
}

// framed puts lengths before messages, each of which begins with its own as a byte or, if
// that is zero, takes the rest.
func framed(b []byte) []byte {
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
	f.Add(framed([]byte("\x02\x81\x06\x03\x82\x08\x05")), false)
}

// An observer is a Handler that fails if it is told what cannot be.
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
	if !w.joined || !c.Local.IsValid() || !c.Peer.IsValid() || c.Process != CleanProcess(c.Process) {
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
			b = framed(b)
		}
		w := &observer{t: t}
		s := &Server{Identity: id, Handler: w}
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			waiting := newWaiter(far)
			s.enter(waiting)
			s.accept(waiting, config, slog.New(slog.DiscardHandler))
			far.Close()
		}()
		l := &linker{Client: &Client{Token: id.Token()}, table: newTable()}
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

// FuzzSpool is a file of the spool that holds anything.
func FuzzSpool(f *testing.F) {
	b, err := cbor.Marshal(spooledBody[[]eventRow]{Number: 1, Lost: 2, Rows: appendEventRows(nil, ended(1, 1))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		b := batch{ends: 2, lost: 4}
		if err := os.WriteFile(filepath.Join(dir, b.fileName()), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir)
		if err != nil || len(s.batches) != 1 {
			t.Fatal(s, err)
		}
		ends, lost := 0, uint64(0)
		for _, d := range s.first() {
			ends, lost = ends+len(d.ends), lost+d.lost
		}
		if ends+int(lost) != 6 {
			t.Fatalf("%d ends and %d lost of 2 and 4", ends, lost)
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
			b = framed(b)
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
		table := newTable()
		r := table.report(welcomeFrame{MaxConns: 10, Acks: true}, func(frame) error { return nil })
		table.add(ended(1, 1)[0])
		if err := r.flush(time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := (&clientSession{conn: conn, reporter: r}).listen(); err == nil {
			t.Fatal("it does not end")
		}
		near.Close()
		if table.flying < 0 || table.flying != len(table.flight) {
			t.Fatalf("%d ends in %d deltas fly", table.flying, len(table.flight))
		}
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

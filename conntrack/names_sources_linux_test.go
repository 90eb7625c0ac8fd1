package conntrack

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["connect"] = helpConnect
	helpers["ask"] = helpAsk
}

// nameServer is where names are served in the network namespace of a test.
const nameServer = "203.0.113.10"

// resolverAt asks the server at an address only.
func resolverAt(network, addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
}

// connected is a connection that was made, and is open.
func connected(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// awaitName waits until a connection has a name, or fails.
func awaitName(t *testing.T, c *Collector, of net.Conn, name string, source NameSource) bool {
	t.Helper()
	var got Conn
	assert.Eventually(t, func() bool {
		got, _ = find(snapshot(t, c), of.LocalAddr(), of.RemoteAddr())
		return got.Name == name && got.NameSource == source
	}, 20*time.Second, 50*time.Millisecond, "want %s by %v", name, source)
	return assert.Equal(t, [2]any{name, source}, [2]any{got.Name, got.NameSource})
}

// addRange gives the namespace all addresses that resolve answers with.
func addRange(t testing.TB) {
	out, err := exec.Command("ip", "addr", "add", "198.18.0.1/15", "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// helpAsk asks for the address of a name.
func helpAsk(name string) error {
	addrs, err := resolverAt("udp", nameServer+":5355").LookupNetIP(context.Background(), "ip4", name+".")
	fmt.Println(addrs)
	return err
}

// helpConnect connects to an address, and holds the connection until standard input ends.
func helpConnect(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.LocalAddr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestNameSources: to whom a name belongs, and which counts.
func TestNameSources(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	addRange(t)
	serveNames(t, nameServer)
	c := ebpfOrSkip(t, Options{Names: true}, 0)
	lookUp := func(r *net.Resolver, name string) string {
		t.Helper()
		addrs, err := r.LookupNetIP(t.Context(), "ip4", name+".")
		require.NoError(t, err)
		return addrs[0].Unmap().String()
	}
	plain := resolverAt("udp", nameServer+":53")

	t.Run("process and host", func(t *testing.T) {
		addr := lookUp(plain, "d1.own.example") + ":9000"
		awaitName(t, c, connected(t, "tcp", addr), "d1.own.example", NameDNS)
		awaitName(t, c, connected(t, "udp", addr), "d1.own.example", NameDNS)
		// Another process that has not asked.
		_, line := helper(t, "connect "+addr, nil)
		local, err := net.ResolveTCPAddr("tcp", strings.TrimSpace(line))
		require.NoError(t, err)
		remote, err := net.ResolveTCPAddr("tcp", addr)
		require.NoError(t, err)
		assert.Eventually(t, func() bool {
			got, ok := find(snapshot(t, c), local, remote)
			return ok && got.Name == "d1.own.example" && got.NameSource == NameHost
		}, 20*time.Second, 50*time.Millisecond)
	})

	t.Run("resolver on loopback, which is hidden", func(t *testing.T) {
		l, err := net.ListenPacket("udp", "127.0.0.53:53")
		require.NoError(t, err)
		defer l.Close()
		go answerAll(l)
		addr := lookUp(resolverAt("udp", "127.0.0.53:53"), "d2.stub.example") + ":9000"
		awaitName(t, c, connected(t, "tcp", addr), "d2.stub.example", NameDNS)
	})

	t.Run("LLMNR", func(t *testing.T) {
		l, err := net.ListenPacket("udp", nameServer+":5355")
		require.NoError(t, err)
		defer l.Close()
		go answerAll(l)
		addr := lookUp(resolverAt("udp", nameServer+":5355"), "d3.llmnr.example") + ":9000"
		awaitName(t, c, connected(t, "tcp", addr), "d3.llmnr.example", NameDNS)
	})

	t.Run("mDNS", func(t *testing.T) {
		l, err := net.ListenPacket("udp", nameServer+":5353")
		require.NoError(t, err)
		defer l.Close()
		go answerAll(l)
		// Its answers count for the host, whichever process has asked.
		ask, err := net.Dial("udp", nameServer+":5353")
		require.NoError(t, err)
		defer ask.Close()
		q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("d4.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := q.Pack()
		require.NoError(t, err)
		_, err = ask.Write(b)
		require.NoError(t, err)
		_, err = ask.Read(make([]byte, 1000))
		require.NoError(t, err)
		addr := netip.AddrFrom4(addressOf("d4.local.")).String() + ":9000"
		awaitName(t, c, connected(t, "tcp", addr), "d4.local", NameHost)
	})

	t.Run("an answer that nobody asked for", func(t *testing.T) {
		l, err := net.ListenPacket("udp", nameServer+":0")
		require.NoError(t, err)
		defer l.Close()
		liar, err := net.ListenPacket("udp", "203.0.113.10:5355")
		require.NoError(t, err)
		defer liar.Close()
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("d5.lie.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := q.Pack()
		require.NoError(t, err)
		_, err = liar.WriteTo(resolve(b), l.LocalAddr())
		require.NoError(t, err)
		_, _, err = l.ReadFrom(make([]byte, 1000))
		require.NoError(t, err)
		conn := connected(t, "tcp", netip.AddrFrom4(addressOf("d5.lie.example.")).String()+":9000")
		time.Sleep(300 * time.Millisecond)
		awaitName(t, c, conn, "", 0)
	})

	t.Run("socket before process", func(t *testing.T) {
		// The server's address has a name by DNS, and its connection says another.
		l, err := net.ListenPacket("udp", nameServer+":5355")
		require.NoError(t, err)
		defer l.Close()
		go answerWith(l, nameServer)
		assert.Equal(t, nameServer, lookUp(resolverAt("udp", nameServer+":5355"), "asked.example"))
		raw := connected(t, "tcp", nameServer+":8443")
		awaitName(t, c, raw, "asked.example", NameDNS)
		require.NoError(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "said.example"}).Handshake())
		awaitName(t, c, raw, "said.example", NameSNI)

		// The name outside an encrypted ClientHello is that of a server in front.
		hidden := connected(t, "tcp", nameServer+":8443")
		err = tls.Client(hidden, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "inside.example", EncryptedClientHelloConfigList: echConfigs(t, "front.example")}).Handshake()
		assert.Error(t, err, "the server knows no ECH, but the hello has been sent")
		awaitName(t, c, hidden, "asked.example", NameDNS)

		// Browsers say that a name is encrypted also where none is. One that was asked for is
		// the server's, whatever else was asked for has its address.
		lookUp(resolverAt("udp", nameServer+":5355"), "clear.example")
		lookUp(resolverAt("udp", nameServer+":5355"), "asked.example")
		grease := connected(t, "tcp", nameServer+":8443")
		err = tls.Client(grease, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "inside.example", EncryptedClientHelloConfigList: echConfigs(t, "clear.example")}).Handshake()
		assert.Error(t, err)
		awaitName(t, c, grease, "clear.example", NameSNI)
	})

	t.Run("an encrypted name without DNS", func(t *testing.T) {
		serveTLS(t, "203.0.113.77:443")
		hidden := connected(t, "tcp", "203.0.113.77:443")
		err := tls.Client(hidden, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "inside.example", EncryptedClientHelloConfigList: echConfigs(t, "front.example")}).Handshake()
		assert.Error(t, err)
		awaitName(t, c, hidden, "front.example", NameSNI)
	})

	t.Run("what an accepted connection asks for", func(t *testing.T) {
		l := listen(t, nameServer+":0")
		out := connected(t, "tcp", l.Addr().String())
		in, err := l.Accept()
		require.NoError(t, err)
		defer in.Close()
		for _, conn := range []net.Conn{in, out} {
			_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: back.example\r\n\r\n")
			require.NoError(t, err)
		}
		awaitName(t, c, out, "back.example", NameHTTP)
		awaitName(t, c, in, "", 0)
	})

	t.Run("beginnings in small parts", func(t *testing.T) {
		send := func(what, name string, source NameSource, parts ...[]byte) {
			t.Helper()
			conn := connected(t, "tcp", "198.18.255.200:9000")
			for _, part := range parts {
				_, err := conn.Write(part)
				require.NoError(t, err, what)
			}
			if !awaitName(t, c, conn, name, source) {
				t.Log(what)
			}
		}
		for n := 1; n <= 16; n++ {
			name := fmt.Sprintf("cut%d.example", n)
			hello := helloFor(t, name)
			send("a segment", name, NameSNI, hello[:n], hello[n:])
			send("a record", name, NameSNI, inRecords(hello, n))
			request := []byte("GET / HTTP/1.1\r\nHost: " + name + "\r\n\r\n")
			send("a request", name, NameHTTP, request[:n], request[n:])
		}
		send("a long hello", "long.example", NameSNI, helloFor(t, "long.example", slices.Repeat([]string{strings.Repeat("p", 250)}, 45)...))
		for _, method := range []string{"PROPFIND", "LOCK", "M-SEARCH", "ACL", "COPY", "RPC_OUT_DATA", "BASELINE-CONTROL"} {
			send(method, "dav.example", NameHTTP, []byte(method+" / HTTP/1.1\r\nHost: dav.example\r\n\r\n"))
		}
		for what, ask := range map[string]string{"SMTP": "STARTTLS\r\n", "POP3": "STLS\r\n", "FTP": "auth tls\n", "IMAP": "a1 STARTTLS\r\n",
			"PostgreSQL": "\x00\x00\x00\x08\x04\xd2\x16\x2f", "MySQL": "\x20\x00\x00\x01\x85\xae" + strings.Repeat("\x00", 30), "RDP": "\x03\x00\x00\x13\x0e\xe0" + strings.Repeat("\x00", 13),
			"XMPP": "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "LDAP": "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"} {
			send(what, "mail.example", NameSNI, []byte("EHLO me\r\n"), []byte(ask), helloFor(t, "mail.example"))
			send(what+" at once", "mail.example", NameSNI, []byte(ask), helloFor(t, "mail.example"))
		}

	})

	t.Run("what is sent later, or through a proxy", func(t *testing.T) {
		hello, get := string(helloFor(t, "wrong.example")), "GET / HTTP/1.1\r\nHost: wrong.example\r\n\r\n"
		put := "PUT / HTTP/1.1\r\nHost: right.example\r\nContent-Length: 99\r\n\r\n"
		for what, want := range map[string]string{
			put + "|" + get:                 "right.example",
			put + "|" + hello:               "right.example",
			"EHLO me\r\n|DATA\r\n|" + get:   "",
			"EHLO me\r\n|DATA\r\n|" + hello: "",
			"\x05|\x01\x00|\x05\x01\x00\x03\x05wrong\x01\xbb|" + hello:                    "",
			"\r\nCONNECT wrong.example:443 HTTP/1.0\r\n\r\n|" + hello:                     "",
			"connect wrong.example:443 HTTP/1.0\r\n\r\n|" + hello:                         "",
			"SSH-2.0-x\r\n|" + strings.Repeat("x", 2000) + "|" + hello:                    "",
			"G|o / HTTP/1.1\r\nHost: wrong.example\r\n\r\n":                               "",
			"CONNECT wrong.example:443 HTTP/1.1\r\n\r\n|" + hello:                         "",
			"CON|NECT wrong.example:443 HTTP/1.1\r\n\r\n|" + hello:                        "",
			"POST http://wrong.example/ HTTP/1.1\r\nHost: wrong.example\r\n\r\n|" + hello: "",
			"\x05\x01\x00|\x05\x01\x00\x03\x05wrong\x01\xbb|" + hello:                     "",
			"\x04\x01\x01\xbb\x00\x00\x00\x01\x00wrong.example\x00|" + get:                "",
		} {
			conn := connected(t, "tcp", "198.18.255.201:9000")
			for _, part := range strings.Split(what, "|") {
				_, err := io.WriteString(conn, part)
				require.NoError(t, err)
				time.Sleep(10 * time.Millisecond) // each is acknowledged
			}
			time.Sleep(300 * time.Millisecond)
			source := NameHTTP
			if want == "" {
				source = 0
			}
			awaitName(t, c, conn, want, source)
		}
	})

	t.Run("what is asked for later", func(t *testing.T) {
		l, err := net.ListenPacket("udp", nameServer+":5355")
		require.NoError(t, err)
		defer l.Close()
		go answerWith(l, "198.18.255.202")
		nameless := connected(t, "tcp", "198.18.255.202:9000")
		awaitName(t, c, nameless, "", 0)
		time.Sleep(lateAnswer + 100*time.Millisecond)
		lookUp(resolverAt("udp", nameServer+":5355"), "first.example")
		named := connected(t, "tcp", "198.18.255.202:9000")
		awaitName(t, c, named, "first.example", NameDNS)
		lookUp(resolverAt("udp", nameServer+":5355"), "second.example")
		awaitName(t, c, named, "first.example", NameDNS)
		ends := make(chan Conn, 10)
		follow(t, c, func(ev Event) {
			if ev.Kind == Close && ev.Conn.Peer.String() == "198.18.255.202:9000" {
				ends <- ev.Conn
			}
		})
		nameless.Close()
		assert.Empty(t, (<-ends).Name)
		named.Close()
		assert.Equal(t, "first.example", (<-ends).Name)
	})

	t.Run("the name of a server in front that another process has asked for", func(t *testing.T) {
		serveTLS(t, "203.0.113.78:443")
		l, err := net.ListenPacket("udp", nameServer+":5355")
		require.NoError(t, err)
		defer l.Close()
		go answerWith(l, "203.0.113.78")
		helper(t, "ask front.example", nil)
		lookUp(resolverAt("udp", nameServer+":5355"), "inside.example")
		hidden := connected(t, "tcp", "203.0.113.78:443")
		assert.Error(t, tls.Client(hidden, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "inside.example", EncryptedClientHelloConfigList: echConfigs(t, "front.example")}).Handshake())
		awaitName(t, c, hidden, "inside.example", NameDNS)
	})

	t.Run("other protocols on the port of DNS, and a socket that connects again", func(t *testing.T) {
		l := listen(t, "198.18.255.203:53")
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, conn)
			}
		}()
		conn := connected(t, "tcp", "198.18.255.203:53")
		hello := helloFor(t, "over53.example")
		for part := range slices.Chunk(hello, 200) {
			_, err := conn.Write(part)
			require.NoError(t, err)
		}
		awaitName(t, c, conn, "over53.example", NameSNI)

		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		for i := range 3 {
			to := &unix.SockaddrInet4{Port: 9000, Addr: [4]byte{198, 18, 255, byte(210 + i)}}
			require.NoError(t, unix.Connect(fd, to))
			name := fmt.Sprintf("again%d.example", i)
			_, err = unix.Write(fd, helloFor(t, name))
			require.NoError(t, err)
			local, err := unix.Getsockname(fd)
			require.NoError(t, err)
			from := local.(*unix.SockaddrInet4)
			assert.Eventually(t, func() bool {
				got, ok := find(snapshot(t, c), &net.TCPAddr{IP: from.Addr[:], Port: from.Port}, &net.TCPAddr{IP: to.Addr[:], Port: to.Port})
				return ok && got.Name == name
			}, 20*time.Second, 50*time.Millisecond, name)
			_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4)
			require.Zero(t, errno)
		}
	})

	t.Run("IPv6", func(t *testing.T) {
		serveTLS(t, "[2001:db8::77]:443")
		raw := connected(t, "tcp", "[2001:db8::77]:443")
		require.NoError(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "six.example"}).Handshake())
		awaitName(t, c, raw, "six.example", NameSNI)
	})
}

// helloFor returns the first record that a client of TLS sends.
func helloFor(t *testing.T, name string, protocols ...string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go tls.Client(client, &tls.Config{ServerName: name, NextProtos: protocols}).Handshake()
	record := make([]byte, 5)
	_, err := io.ReadFull(server, record)
	require.NoError(t, err)
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	_, err = io.ReadFull(server, record[5:])
	require.NoError(t, err)
	return record
}

// inRecords splits a record of TLS into records with n bytes each.
func inRecords(record []byte, n int) []byte {
	var b []byte
	for part := range slices.Chunk(record[5:], n) {
		b = append(b, 22, 3, 1, 0, byte(len(part)))
		b = append(b, part...)
	}
	return b
}

// serveTLS gives the namespace an address, and accepts connections there.
func serveTLS(t *testing.T, addr string) {
	t.Helper()
	out, err := exec.Command("ip", "addr", "add", netip.MustParseAddrPort(addr).Addr().String(), "dev", "lo", "nodad").CombinedOutput()
	require.NoError(t, err, "%s", out)
	l := tls.NewListener(listen(t, addr), &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, conn); conn.Close() }()
		}
	}()
}

// answerAll answers questions as resolve does.
func answerAll(l net.PacketConn) {
	for b := make([]byte, 2000); ; {
		n, from, err := l.ReadFrom(b)
		if err != nil {
			return
		}
		if a := resolve(b[:n]); a != nil {
			l.WriteTo(a, from)
		}
	}
}

// answerWith answers all questions with one address.
func answerWith(l net.PacketConn, addr string) {
	for b := make([]byte, 2000); ; {
		n, from, err := l.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()}}}
		}
		if a, err := m.Pack(); err == nil {
			l.WriteTo(a, from)
		}
	}
}

// echConfigs returns a list of one configuration of ECH (RFC 9849, section 4) with a public name.
func echConfigs(t *testing.T, public string) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	u16 := func(b []byte, n int) []byte { return binary.BigEndian.AppendUint16(b, uint16(n)) }
	vector := func(b, v []byte) []byte { return append(u16(b, len(v)), v...) }
	content := []byte{1}                                      // config_id
	content = u16(content, 0x0020)                            // DHKEM(X25519, HKDF-SHA256)
	content = vector(content, key.PublicKey().Bytes())        // public_key
	content = vector(content, []byte{0, 1, 0, 1})             // HKDF-SHA256, AES-128-GCM
	content = append(content, 64, byte(len(public)))          // maximum_name_length, public_name
	content = vector(append(content, public...), []byte(nil)) // extensions
	return vector(nil, append([]byte{0xfe, 0x0d}, vector(nil, content)...))
}

package conntracktest

import (
	"math"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/conntrack"
)

// A program has connections of one kind.
type program struct {
	conntrack.Process
	uid        uint32
	proto      conntrack.Proto
	direction  conntrack.Direction
	first      uint16 // port of the service: the peer's if direction is Out
	last       uint16
	weight     int
	reuse      float64 // share of connections to a peer that has others
	tx, rx     float64 // bytes, typically
	lan        bool
	ownProcess bool // a process for each connection
	named      conntrack.NameSource
}

const (
	webContainer = "5f0c2a9e7d3b4186c0ffee12a7b9d4e35f0c2a9e7d3b4186c0ffee12a7b9d4e3"
	sqlContainer = "9b1d4c7e0a2f5836deadbeef41c7a0e29b1d4c7e0a2f5836deadbeef41c7a0e2"
)

var (
	firefox     = conntrack.Process{PID: 2817, Comm: "firefox", Exe: "/usr/lib/firefox/firefox"}
	chrome      = conntrack.Process{PID: 3342, Comm: "chrome", Exe: "/opt/google/chrome/chrome"}
	thunderbird = conntrack.Process{PID: 2950, Comm: "thunderbird", Exe: "/usr/lib/thunderbird/thunderbird"}
	deluged     = conntrack.Process{PID: 1203, Comm: "deluged", Exe: "/usr/bin/python3.11"}
	bitcoind    = conntrack.Process{PID: 1211, Comm: "bitcoind", Exe: "/usr/local/bin/bitcoind"}
	nginx       = conntrack.Process{PID: 1544, Comm: "nginx", Exe: "/usr/sbin/nginx", Container: webContainer}
	postgres    = conntrack.Process{Comm: "postgres", Exe: "/usr/lib/postgresql/15/bin/postgres", Container: sqlContainer}
	sshd        = conntrack.Process{Comm: "sshd", Exe: "/usr/sbin/sshd"}
	ssh         = conntrack.Process{Comm: "ssh", Exe: "/usr/bin/ssh"}
	smtp        = conntrack.Process{PID: 1630, Comm: "smtp", Exe: "/usr/lib/postfix/sbin/smtp"}
	smtpd       = conntrack.Process{PID: 1631, Comm: "smtpd", Exe: "/usr/lib/postfix/sbin/smtpd"}
	irssi       = conntrack.Process{PID: 4120, Comm: "irssi", Exe: "/usr/bin/irssi"}
	resolved    = conntrack.Process{PID: 612, Comm: "systemd-resolve", Exe: "/usr/lib/systemd/systemd-resolved"}
	chronyd     = conntrack.Process{PID: 655, Comm: "chronyd", Exe: "/usr/sbin/chronyd"}
	smbd        = conntrack.Process{PID: 1702, Comm: "smbd", Exe: "/usr/sbin/smbd"}
	cupsd       = conntrack.Process{PID: 711, Comm: "cupsd", Exe: "/usr/sbin/cupsd"}
)

var programs = [...]program{
	{Process: firefox, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 443, weight: 24, reuse: 0.45, tx: 4e3, rx: 2e5, named: conntrack.NameSNI},
	{Process: firefox, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 80, weight: 2, reuse: 0.2, tx: 8e2, rx: 2e4, named: conntrack.NameHTTP},
	{Process: chrome, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 443, weight: 13, reuse: 0.4, tx: 4e3, rx: 2e5, named: conntrack.NameSNI},
	{Process: chrome, uid: 1000, proto: conntrack.UDP, direction: conntrack.Out, first: 443, weight: 5, reuse: 0.2, named: conntrack.NameQUIC},
	{Process: thunderbird, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 993, weight: 3, reuse: 0.8, tx: 2e3, rx: 5e4, named: conntrack.NameDNS},
	{Process: ssh, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 22, weight: 2, reuse: 0.4, tx: 2e4, rx: 1e5, ownProcess: true, named: conntrack.NameDNS},
	{Process: sshd, proto: conntrack.TCP, direction: conntrack.In, first: 22, weight: 4, reuse: 0.3, tx: 3e3, rx: 2e3, ownProcess: true},
	{Process: nginx, uid: 33, proto: conntrack.TCP, direction: conntrack.In, first: 443, weight: 14, reuse: 0.5, tx: 1e5, rx: 3e3},
	{Process: nginx, uid: 33, proto: conntrack.TCP, direction: conntrack.In, first: 80, weight: 3, reuse: 0.3, tx: 2e3, rx: 5e2},
	{Process: deluged, uid: 112, proto: conntrack.TCP, direction: conntrack.Out, first: 6881, last: 6889, weight: 9, reuse: 0.03, tx: 2e6, rx: 4e6},
	{Process: deluged, uid: 112, proto: conntrack.TCP, direction: conntrack.In, first: 6881, last: 6889, weight: 7, reuse: 0.03, tx: 4e6, rx: 1e5},
	{Process: bitcoind, uid: 113, proto: conntrack.TCP, direction: conntrack.Out, first: 8333, weight: 3, tx: 4e5, rx: 3e6},
	{Process: bitcoind, uid: 113, proto: conntrack.TCP, direction: conntrack.In, first: 8333, weight: 2, tx: 3e6, rx: 4e5},
	{Process: smtp, uid: 105, proto: conntrack.TCP, direction: conntrack.Out, first: 25, weight: 1, reuse: 0.2, tx: 2e4, rx: 5e2, named: conntrack.NameDNS},
	{Process: smtpd, uid: 105, proto: conntrack.TCP, direction: conntrack.In, first: 25, weight: 2, reuse: 0.2, tx: 5e2, rx: 2e4},
	{Process: irssi, uid: 1000, proto: conntrack.TCP, direction: conntrack.Out, first: 6667, weight: 1, reuse: 0.3, tx: 3e3, rx: 8e4, named: conntrack.NameDNS},
	{Process: resolved, uid: 101, proto: conntrack.UDP, direction: conntrack.Out, first: 53, weight: 1, reuse: 0.7},
	{Process: chronyd, uid: 107, proto: conntrack.UDP, direction: conntrack.Out, first: 123, weight: 1, reuse: 0.3, named: conntrack.NameDNS},
	{Process: smbd, proto: conntrack.TCP, direction: conntrack.In, first: 445, weight: 1, reuse: 0.5, tx: 1e6, rx: 1e5, lan: true},
	{Process: postgres, uid: 999, proto: conntrack.TCP, direction: conntrack.In, first: 5432, weight: 1, reuse: 0.6, tx: 5e4, rx: 1e4, lan: true, ownProcess: true},
	{Process: cupsd, proto: conntrack.TCP, direction: conntrack.Out, first: 631, weight: 1, reuse: 0.8, tx: 1e4, rx: 1e3, lan: true},
}

// The addresses of the local host.
var (
	local4 = netip.MustParseAddr("192.168.1.20")
	local6 = netip.MustParseAddr("2001:db8:1::20")
)

// hosts are what peers may be called.
var hosts = [...]string{
	"www.example.com", "cdn.example.net", "api.example.org", "static.example.com", "images.example.net", "video.example.org",
	"login.example.com", "updates.example.net", "news.example.org", "shop.example.com", "mail.example.net",
}

// hostOf returns what a peer is called.
func hostOf(a netip.Addr) string {
	sum := 0
	for _, b := range a.AsSlice() {
		sum += int(b)
	}
	return hosts[sum%len(hosts)]
}

// A peer is a computer somewhere else.
type peer struct {
	addr netip.Addr
	rtt  time.Duration
}

// open makes and opens a connection.
func (m *maker) open(now time.Time) conntrack.Conn {
	at, k := m.r.IntN(m.total), 0
	for at >= programs[k].weight {
		at -= programs[k].weight
		k++
	}
	p := &programs[k]
	service := p.first
	if p.last > 0 {
		service += uint16(m.r.UintN(uint(p.last-p.first) + 1))
	}
	c := conntrack.Conn{Proto: p.proto, Direction: p.direction, Process: p.Process, UID: p.uid, Opened: now}
	for {
		remote := m.peer(k)
		local := local4
		if remote.addr.Is6() {
			local = local6
		}
		ephemeral := 32768 + uint16(m.r.UintN(28232)) // Linux's range
		if p.direction == conntrack.Out {
			c.Local, c.Peer = netip.AddrPortFrom(local, ephemeral), netip.AddrPortFrom(remote.addr, service)
		} else {
			c.Local, c.Peer = netip.AddrPortFrom(local, service), netip.AddrPortFrom(remote.addr, ephemeral)
		}
		t := tuple{c.Proto, c.Local, c.Peer}
		if m.used[t] {
			continue
		}
		m.used[t] = true
		m.peers[k] = append(m.peers[k], remote)
		if p.proto == conntrack.TCP {
			c.RTT = m.jitter(remote.rtt)
			c.Tx, c.Rx = m.bytes(p.tx), m.bytes(p.rx)
		}
		break
	}
	if p.ownProcess {
		m.pid += 1 + m.r.IntN(40)
		c.Process.PID = m.pid
	}
	if p.named != 0 {
		c.Name, c.NameSource = hostOf(c.Peer.Addr()), p.named
	}
	m.id++
	c.ID = m.id
	return c
}

// close frees the addresses of a connection.
func (m *maker) close(c conntrack.Conn) { delete(m.used, tuple{c.Proto, c.Local, c.Peer}) }

// transfer makes c send and receive, and reports whether its counters changed.
func (m *maker) transfer(c *conntrack.Conn) bool {
	if c.Proto != conntrack.TCP {
		return false
	}
	c.Tx += 1 + m.bytes(1+float64(c.Tx)/10)
	c.Rx += 1 + m.bytes(1+float64(c.Rx)/10)
	c.RTT = m.jitter(c.RTT)
	return true
}

// bytes returns a number of bytes of a long-tailed distribution.
func (m *maker) bytes(typical float64) uint64 {
	return uint64(typical * math.Exp(min(m.r.NormFloat64()*1.5, 6)))
}

func (m *maker) jitter(d time.Duration) time.Duration {
	d = time.Duration(float64(d) * (0.95 + 0.1*m.r.Float64()))
	return min(max(d, 100*time.Microsecond), time.Second).Truncate(time.Microsecond)
}

// peer picks a peer for a connection of programs[k], new or not.
func (m *maker) peer(k int) peer {
	p := &programs[k]
	if known := m.peers[k]; len(known) > 0 && m.r.Float64() < p.reuse {
		// The list has a peer as often as it was used: popular ones get more.
		return known[m.r.IntN(len(known))]
	}
	if p.lan {
		addr := local4.As4()
		addr[3] = [...]byte{1, 5, 30, 31, 42}[m.r.IntN(5)]
		return peer{netip.AddrFrom4(addr), time.Duration(200+m.r.IntN(2000)) * time.Microsecond}
	}
	at, i := m.r.IntN(100), 0
	for at >= regions[i].percent {
		at -= regions[i].percent
		i++
	}
	g := &regions[i]
	rtt := time.Duration((g.near + (g.far-g.near)*m.r.Float64()*m.r.Float64()) * float64(time.Millisecond))
	if m.r.IntN(14) == 0 {
		return peer{m.addr6(g), rtt}
	}
	return peer{m.addr4(g), rtt}
}

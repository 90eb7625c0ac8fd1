package names

import (
	"net/netip"
	"slices"
)

// A Source says how a name was learnt.
type Source uint8

// The sources.
const (
	DNS  Source = iota + 1 // an answer to the process
	SNI                    // the ClientHello of TLS
	QUIC                   // that of QUIC
	HTTP                   // the Host of a request
	Host                   // an answer to another process of this host, such as a resolver
)

// String returns "dns", "sni", "quic", "http" or "host"; of none "".
func (s Source) String() string {
	return [...]string{"", "dns", "sni", "quic", "http", "host"}[min(s, Host)%(Host+1)]
}

// ParseSource returns the source whose String is s, and whether there is one.
func ParseSource(s string) (Source, bool) {
	for source := DNS; source <= Host; source++ {
		if source.String() == s {
			return source, true
		}
	}
	return 0, false
}

// A Name is one that a program gave a peer.
type Name struct {
	Name   string // in lower case; in other scripts Punycode
	Source Source
	// Outer says that the name may be that of a server in front, since the one inside is encrypted.
	Outer bool
}

// Openings read names in what programs send first on connections. At most 1,024 connections are
// followed at a time, with 16 KiB each. The zero Openings work; they are not safe for concurrent use.
type Openings struct {
	tcp  cache[uint64, *stream]
	quic cache[quicPath, []*pieces]
}

// A quicPath is a socket and a peer, between which there may be several QUIC connections. The keys of
// one come from the first ID that the client has for the server. When the server has answered, the
// client uses another ID, with the same keys.
type quicPath struct {
	cookie uint64
	peer   netip.AddrPort
}

const maxQUIC = 4 // connections between a socket and a peer that begin at the same time

// TCP reads data that a socket sends, with its sequence number. What follows the beginning of a
// connection counts while more is wanted. It returns a name, and whether more is wanted of this
// socket.
func (o *Openings) TCP(cookie uint64, begins bool, seq uint32, data []byte) (n Name, more bool) {
	o.tcp.max = maxStreams
	s, ok := o.tcp.get(cookie)
	switch {
	case begins:
		s = &stream{next: seq}
	case !ok:
		return Name{}, false
	}
	grown, ok := s.add(seq, data)
	if !ok {
		o.tcp.remove(cookie)
		return Name{}, false
	}
	if !grown {
		o.tcp.put(cookie, s)
		return Name{}, true
	}
	n, err := read(s.data)
	if err == errMore {
		o.tcp.put(cookie, s)
		return Name{}, true
	}
	o.tcp.remove(cookie)
	if err != nil {
		return Name{}, false
	}
	return n, false
}

// Reads reports whether more is wanted of a socket.
func (o *Openings) Reads(cookie uint64) bool {
	_, ok := o.tcp.get(cookie)
	return ok
}

// IsHello reports whether data begins like TLS.
func IsHello(data []byte) bool { return len(data) > 1 && data[0] == recordHandshake && data[1] == 3 }

// IsInitial reports whether a datagram is one with which a client of QUIC begins.
func IsInitial(datagram []byte) bool {
	if len(datagram) < 1200 {
		return false
	}
	p, _ := nextInitial(datagram)
	return p != nil
}

// read reads the name in what a client sends first.
func read(b []byte) (Name, error) {
	if len(b) > 0 && b[0] == recordHandshake {
		hello, err := parseRecords(b)
		return Name{hello.Name, SNI, hello.ECH}, err
	}
	host, err := parseRequest(b)
	return Name{Name: host, Source: HTTP}, err
}

// UDP reads a datagram that a socket sends to a peer. It returns a name, and whether more is
// wanted of this socket and peer.
func (o *Openings) UDP(cookie uint64, peer netip.AddrPort, datagram []byte) (n Name, more bool) {
	o.quic.max = maxStreams
	for len(datagram) > 0 {
		p, rest := nextInitial(datagram)
		datagram = rest
		if p == nil {
			continue
		}
		c, frames := o.open(quicPath{cookie, peer}, p)
		if c == nil {
			continue // of a server, or damaged
		}
		cryptoFrames(frames, func(offset uint64, data []byte) { c.put(offset, data) })
		hello, err := parseHello(c.whole())
		if err == nil && !c.done {
			n = Name{hello.Name, QUIC, hello.ECH}
		}
		if err != errMore {
			c.done, c.data, c.have = true, nil, nil
		}
		more = more || !c.done
	}
	return n, more
}

// open decrypts a packet with the keys of a connection that has begun, or of a new one.
func (o *Openings) open(path quicPath, p *initial) (*pieces, []byte) {
	list, _ := o.quic.get(path)
	for _, c := range list {
		if frames, ok := c.keys.open(p); ok {
			if c.count++; c.count > maxInitials {
				c.done = true
			}
			return c, frames
		}
	}
	keys, err := initialKeys(p.version, p.dcid)
	if err != nil {
		return nil, nil
	}
	frames, ok := keys.open(p)
	if !ok {
		return nil, nil
	}
	c := &pieces{keys: keys, count: 1}
	if len(list) >= maxQUIC {
		list = list[1:]
	}
	o.quic.put(path, append(slices.Clone(list), c))
	return c, frames
}

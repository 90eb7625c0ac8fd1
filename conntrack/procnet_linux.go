package conntrack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
)

// A procnet is the lister of the backend Proc: the tables in /proc/net.
type procnet struct {
	tables []table
	lines  *bufio.Reader
	sock   sock // reused, as in diag
}

// A table is a file that stays open: it shows the network namespace of the thread that opened
// it. A directory would show that of a thread that may have ended.
type table struct {
	*os.File
	proto Proto // zero: it is in the port
}

func openProc(o Options) (backend, error) {
	p, err := openProcnet("/proc/thread-self/net/")
	if err != nil {
		return nil, err
	}
	return newLinuxPoller(Proc, o, p, "bytes and round-trip times are not in /proc/net"), nil
}

func openProcnet(dir string) (*procnet, error) {
	p := &procnet{lines: bufio.NewReader(nil)}
	for _, t := range [...]struct {
		name  string
		proto Proto
	}{{"tcp", TCP}, {"tcp6", TCP}, {"udp", UDP}, {"udp6", UDP}, {"icmp", ICMP}, {"icmp6", ICMPv6}, {"raw", 0}, {"raw6", 0}} {
		f, err := os.Open(dir + t.name)
		if errors.Is(err, fs.ErrNotExist) {
			if t.name != "tcp" {
				continue // as in a kernel without IPv6
			}
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		if err != nil {
			p.close()
			return nil, err
		}
		p.tables = append(p.tables, table{f, t.proto})
	}
	return p, nil
}

func (p *procnet) close() (err error) {
	for _, t := range p.tables {
		err = errors.Join(err, t.Close())
	}
	return err
}

func (p *procnet) list(ctx context.Context, add func(Proto, *sock)) error {
	for _, t := range p.tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.read(t, add); err != nil {
			return fmt.Errorf("%s: %w", t.Name(), err)
		}
	}
	return nil
}

func (p *procnet) read(t table, add func(Proto, *sock)) error {
	if _, err := t.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.lines.Reset(t.File)
	for n := 1; ; n++ {
		line, err := p.lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == 1 {
			continue // names of the columns
		}
		if !p.sock.parseTable(line) {
			return fmt.Errorf("line %d is malformed: %q", n, line)
		}
		proto := t.proto
		switch proto {
		case 0:
			proto = Proto(p.sock.local.Port())
			fallthrough
		case ICMP, ICMPv6:
			// The port of a raw socket is its protocol, that of ICMP an identifier.
			p.sock.local = netip.AddrPortFrom(p.sock.local.Addr(), 0)
			p.sock.peer = netip.AddrPortFrom(p.sock.peer.Addr(), 0)
		}
		add(proto, &p.sock)
	}
}

// parseTable reads a line of a table in /proc/net, such as
//
//	0: 010200C0:01BB 026433C6:C350 01 00000000:00000000 00:00000000 00000000  1000        0 378521 1 ...
//
// with the fields number, local and peer address, state, queues, timer, retransmissions, user,
// timeouts and inode.
func (s *sock) parseTable(line []byte) bool {
	var fields [10][]byte
	n := 0
	for f := range bytes.FieldsSeq(line) {
		fields[n] = f
		if n++; n == len(fields) {
			break
		}
	}
	if n < len(fields) {
		return false
	}
	local, ok1 := tableAddr(fields[1])
	peer, ok2 := tableAddr(fields[2])
	state, ok3 := hexByte(fields[3])
	timer, _, _ := bytes.Cut(fields[5], []byte{':'})
	timerState, ok4 := hexByte(timer)
	uid, ok5 := number(fields[7])
	inode, ok6 := number(fields[9])
	*s = sock{state: state, timer: timerState, local: local, peer: peer, uid: uint32(uid), inode: uint32(inode)}
	return ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && uid <= 1<<32-1 && inode <= 1<<32-1
}

// tableAddr reads an address and a port. Each 32-bit word of the address is in the byte order
// of this machine.
func tableAddr(b []byte) (a netip.AddrPort, ok bool) {
	var addr [16]byte
	var port [2]byte
	n := len(b) - len(":0000")
	if n != 8 && n != 32 || b[n] != ':' {
		return a, false
	}
	_, err1 := hex.Decode(addr[:], b[:n])
	_, err2 := hex.Decode(port[:], b[n+1:])
	for i := 0; i < len(addr); i += 4 {
		binary.NativeEndian.PutUint32(addr[i:], binary.BigEndian.Uint32(addr[i:]))
	}
	ip := netip.AddrFrom16(addr).Unmap()
	if n == 8 {
		ip = netip.AddrFrom4([4]byte(addr[:4]))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port[:])), err1 == nil && err2 == nil
}

func hexByte(b []byte) (byte, bool) {
	var v [1]byte
	if len(b) != 2 {
		return 0, false
	}
	_, err := hex.Decode(v[:], b)
	return v[0], err == nil
}

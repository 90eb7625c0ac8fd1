package names

import "slices"

const (
	maxStreams = 256      // beginnings of connections that are joined at a time
	maxStream  = 16 << 10 // bytes of each
)

// A stream is the beginning of what a program sends on a TCP connection.
type stream struct {
	next uint32 // sequence number of what is expected
	data []byte
	late []segment // that came before the one expected
}

type segment struct {
	seq  uint32
	data []byte
}

// add joins a segment. It reports whether there is more to read, and whether it can go on.
func (s *stream) add(seq uint32, data []byte) (grown, ok bool) {
	if len(s.data)+len(data) > maxStream {
		return false, false
	}
	switch ahead := int32(seq - s.next); {
	case ahead > maxStream || ahead < -maxStream:
		return false, false
	case ahead > 0:
		if len(s.late) >= 16 {
			return false, false
		}
		s.late = append(s.late, segment{seq, slices.Clone(data)})
		return false, true
	case -ahead >= int32(len(data)):
		return false, true // was sent before
	default:
		data = data[-ahead:]
	}
	s.data = append(s.data, data...)
	s.next += uint32(len(data))
	for i, l := range s.late {
		if int32(l.seq-s.next) <= 0 {
			s.late = slices.Delete(s.late, i, i+1)
			_, ok := s.add(l.seq, l.data)
			return true, ok
		}
	}
	return true, true
}

// pieces is the beginning of the handshake of a QUIC connection, whose parts come in any order.
type pieces struct {
	keys  quicKeys
	data  []byte
	have  []span // of data, ascending and apart
	count int    // packets that were read
	done  bool   // its name is known, or it has none
}

type span struct{ from, to int }

const maxInitials = 16 // packets of a connection that are read

// put adds a part.
func (p *pieces) put(offset uint64, data []byte) {
	if p.done || offset+uint64(len(data)) > maxStream || len(data) == 0 {
		return
	}
	from, to := int(offset), int(offset)+len(data)
	if to > len(p.data) {
		p.data = append(p.data, make([]byte, to-len(p.data))...)
	}
	copy(p.data[from:], data)
	i := 0
	for i < len(p.have) && p.have[i].to < from {
		i++
	}
	j := i
	for j < len(p.have) && p.have[j].from <= to {
		from, to = min(from, p.have[j].from), max(to, p.have[j].to)
		j++
	}
	p.have = slices.Replace(p.have, i, j, span{from, to})
}

// whole returns what is there from the beginning on.
func (p *pieces) whole() []byte {
	if len(p.have) == 0 || p.have[0].from != 0 {
		return nil
	}
	return p.data[:p.have[0].to]
}

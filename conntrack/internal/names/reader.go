package names

// A reader reads fields of messages. After a read beyond the end it is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// number reads a number of some bytes, the highest first.
func (r *reader) number(size uint64) (n uint64) {
	for _, b := range r.bytes(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

// vector reads a field behind its length, which has some bytes.
func (r *reader) vector(size uint64) []byte { return r.bytes(r.number(size)) }

// varint reads a number of QUIC (RFC 9000, section 16).
func (r *reader) varint() uint64 {
	first := r.bytes(1)
	if r.bad {
		return 0
	}
	v := uint64(first[0] & 0x3f)
	for _, b := range r.bytes(1<<(first[0]>>6) - 1) {
		v = v<<8 | uint64(b)
	}
	return v
}

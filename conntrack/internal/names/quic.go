package names

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// A quicVersion has what its Initial packets need.
type quicVersion struct {
	salt    []byte
	label   string
	initial byte // type of an Initial packet
}

// The versions of RFC 9000 with RFC 9001, and of RFC 9369.
var quicVersions = map[uint32]quicVersion{
	1: {[]byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a},
		"quic ", 0},
	0x6b3343cf: {[]byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9},
		"quicv2 ", 1},
}

const (
	maxConnectionID = 20
	sampleSize      = 16 // of the ciphertext, for header protection
)

// Frames of Initial packets (RFC 9000, section 12.4).
const (
	framePadding = 0
	framePing    = 1
	frameAck     = 2
	frameAckECN  = 3
	frameCrypto  = 6
)

// An initial is an Initial packet of a client.
type initial struct {
	version quicVersion
	number  uint32
	dcid    []byte
	header  []byte // up to the packet number, protected
	payload []byte // packet number and ciphertext
}

// nextInitial returns the first packet of a datagram, and what follows it. The packet is nil if it
// is no Initial packet.
func nextInitial(b []byte) (p *initial, rest []byte) {
	r := reader{b: b}
	head := r.bytes(1)
	number := r.bytes(4)
	if r.bad || head[0]&0xc0 != 0xc0 {
		return nil, nil
	}
	version, ok := quicVersions[binary.BigEndian.Uint32(number)]
	if !ok {
		return nil, nil
	}
	ids := make([][]byte, 0, 2)
	for range 2 {
		n := r.bytes(1)
		if r.bad || n[0] > maxConnectionID {
			return nil, nil
		}
		ids = append(ids, r.bytes(uint64(n[0])))
	}
	kind := head[0] >> 4 & 3
	if kind == version.initial {
		r.bytes(r.varint()) // the token
	} else if kind == (version.initial+3)&3 {
		return nil, nil // Retry, which has no length
	}
	length := r.varint()
	header := b[:len(b)-len(r.b)]
	payload := r.bytes(length)
	if r.bad {
		return nil, nil
	}
	if kind != version.initial {
		return nil, r.b
	}
	return &initial{version, binary.BigEndian.Uint32(number), ids[0], header, payload}, r.b
}

// quicKeys decrypt the Initial packets of a client.
type quicKeys struct {
	aead   cipher.AEAD
	iv     []byte
	header cipher.Block
}

// initialKeys derives the keys of a client from the ID of the connection (RFC 9001, section 5.2).
func initialKeys(v quicVersion, dcid []byte) (k quicKeys, err error) {
	secret, err := hkdf.Extract(sha256.New, dcid, v.salt)
	if err != nil {
		return k, err
	}
	if secret, err = expandLabel(secret, "client in", sha256.Size); err != nil {
		return k, err
	}
	var parts [3][]byte
	for i, l := range []struct {
		label string
		size  int
	}{{"key", 16}, {"iv", 12}, {"hp", 16}} {
		if parts[i], err = expandLabel(secret, v.label+l.label, l.size); err != nil {
			return k, err
		}
	}
	block, err := aes.NewCipher(parts[0])
	if err != nil {
		return k, err
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return k, err
	}
	k.iv = parts[1]
	k.header, err = aes.NewCipher(parts[2])
	return k, err
}

// expandLabel is HKDF-Expand-Label of TLS 1.3 without a context.
func expandLabel(secret []byte, label string, size int) ([]byte, error) {
	label = "tls13 " + label
	info := string([]byte{byte(size >> 8), byte(size), byte(len(label))}) + label + "\x00"
	return hkdf.Expand(sha256.New, secret, info, size)
}

// open decrypts a packet, and returns its frames.
func (k quicKeys) open(p *initial) ([]byte, bool) {
	// The sample begins where the packet number would end if it had four bytes.
	if len(p.payload) < 4+sampleSize {
		return nil, false
	}
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], p.payload[4:4+sampleSize])
	head := p.header[0] ^ mask[0]&0x0f
	size := int(head&3) + 1
	aad := append(append(make([]byte, 0, len(p.header)+4), p.header...), p.payload[:size]...)
	aad[0] = head
	number := uint64(0) // the first packets are few, so that all bytes of their number are there
	for i := range size {
		at := len(p.header) + i
		aad[at] ^= mask[1+i]
		number = number<<8 | uint64(aad[at])
	}
	nonce := append(make([]byte, 0, len(k.iv)), k.iv...)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(number >> (8 * i))
	}
	frames, err := k.aead.Open(nil, nonce, p.payload[size:], aad)
	return frames, err == nil
}

// cryptoFrames calls visit for each piece of the handshake in the frames of an Initial packet.
func cryptoFrames(frames []byte, visit func(offset uint64, data []byte)) {
	r := reader{b: frames}
	for len(r.b) > 0 && !r.bad {
		switch kind := r.varint(); kind {
		case framePadding, framePing:
		case frameAck, frameAckECN:
			r.varint()
			r.varint()
			ranges := r.varint()
			r.varint()
			for ; ranges > 0 && !r.bad; ranges-- {
				r.varint()
				r.varint()
			}
			if kind == frameAckECN {
				r.varint()
				r.varint()
				r.varint()
			}
		case frameCrypto:
			offset := r.varint()
			if data := r.bytes(r.varint()); !r.bad {
				visit(offset, data)
			}
		default:
			return
		}
	}
}

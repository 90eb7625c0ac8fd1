package names

import "errors"

// maxHello is how many bytes of a ClientHello are read. With post-quantum key shares it has some
// 2,000.
const maxHello = 16 << 10

// errMore means that the data is only the beginning of what is to be read; errNone that it is
// something else, or has no name.
var (
	errMore = errors.New("the data is incomplete")
	errNone = errors.New("the data has no name")
)

// A Hello is what a ClientHello says of the server.
type Hello struct {
	Name string
	// ECH says that the message has an encrypted one inside, or seems to: the name may be that of
	// a server in front. Clients that could encrypt but do not send this too.
	ECH bool
}

// Constants of TLS 1.3, RFC 8446, RFC 6066 and draft-ietf-tls-esni.
const (
	recordHandshake  = 22
	recordHeader     = 5
	maxRecord        = 1<<14 + 256
	clientHello      = 1
	handshakeHeader  = 4
	extensionSNI     = 0
	extensionECH     = 0xfe0d
	serverNameIsHost = 0
)

// parseRecords reads a ClientHello in TLS records, in which it may be split anywhere.
func parseRecords(b []byte) (Hello, error) {
	var message []byte
	for {
		if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
			return Hello{}, errNone
		}
		if len(b) < recordHeader {
			return Hello{}, errMore
		}
		n := int(b[3])<<8 | int(b[4])
		if n == 0 || n > maxRecord {
			return Hello{}, errNone
		}
		part := b[recordHeader:min(len(b), recordHeader+n)]
		whole := len(part) == n
		if message == nil {
			message = part
		} else {
			message = append(message[:len(message):len(message)], part...)
		}
		hello, err := parseHello(message)
		if err != errMore || !whole {
			return hello, err
		}
		b = b[recordHeader+n:]
	}
}

// parseHello reads a ClientHello, with the header of a handshake message.
func parseHello(b []byte) (Hello, error) {
	if len(b) > 0 && b[0] != clientHello {
		return Hello{}, errNone
	}
	if len(b) < handshakeHeader {
		return Hello{}, errMore
	}
	n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if n > maxHello {
		return Hello{}, errNone
	}
	if len(b) < handshakeHeader+n {
		return Hello{}, errMore
	}
	r := reader{b: b[handshakeHeader : handshakeHeader+n]}
	r.bytes(2 + 32) // version and random
	r.vector(1)     // session
	r.vector(2)     // cipher suites
	r.vector(1)     // compression
	extensions := reader{b: r.vector(2)}
	var hello Hello
	for len(extensions.b) > 0 {
		kind := extensions.number(2)
		data := extensions.vector(2)
		if extensions.bad {
			return Hello{}, errNone
		}
		switch kind {
		case extensionECH:
			hello.ECH = true
		case extensionSNI:
			if hello.Name == "" {
				hello.Name = serverName(data)
			}
		}
	}
	if hello.Name == "" {
		return Hello{}, errNone
	}
	return hello, nil
}

// serverName reads the extension server_name.
func serverName(b []byte) string {
	r := reader{b: b}
	list := reader{b: r.vector(2)}
	for len(list.b) > 0 && !list.bad {
		kind := list.number(1)
		if host, ok := Clean(string(list.vector(2))); ok && kind == serverNameIsHost {
			return host
		}
	}
	return ""
}

package names

import "bytes"

const maxMethod = 20 // letters of a method

// maxRequest is how many bytes of a request of HTTP are searched for its Host.
const maxRequest = 8 << 10

// parseRequest reads the Host of a request of HTTP/1 to a server. A request to a proxy names
// another server than the peer, and has none.
func parseRequest(b []byte) (string, error) {
	method, rest, _ := bytes.Cut(b, []byte(" "))
	isMethod := func(c rune) bool { return 'A' <= c && c <= 'Z' || c == '-' || c == '_' }
	if len(method) == 0 || len(method) > maxMethod || string(method) == "CONNECT" || len(bytes.TrimFunc(method, isMethod)) > 0 {
		return "", errNone
	}
	if len(rest) > 0 && rest[0] != '/' && rest[0] != '*' {
		return "", errNone
	}
	for first := true; ; first = false {
		line, more, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			if len(b) >= maxRequest {
				return "", errNone
			}
			return "", errMore
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		rest = more
		if first {
			if !bytes.Contains(line, []byte(" HTTP/1.")) {
				return "", errNone
			}
			continue
		}
		if len(line) == 0 {
			return "", errNone
		}
		if key, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(key, []byte("Host")) {
			if host, ok := cleanHost(string(bytes.TrimSpace(value))); ok {
				return host, nil
			}
			return "", errNone
		}
	}
}

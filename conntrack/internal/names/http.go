package names

import "bytes"

// maxRequest is how many bytes of a request of HTTP are searched for its Host.
const maxRequest = 8 << 10

// methods are those of requests that name a host. CONNECT is none: it asks a proxy.
var methods = []string{"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "PROPFIND ", "PROPPATCH ", "REPORT ", "MKCOL "}

// parseRequest reads the Host of a request of HTTP/1 to a server. A request to a proxy names
// another server than the peer, and has none.
func parseRequest(b []byte) (string, error) {
	method := ""
	for _, m := range methods {
		if n := min(len(m), len(b)); string(b[:n]) == m[:n] {
			method = m
			break
		}
	}
	if method == "" {
		return "", errNone
	}
	rest := b[min(len(method), len(b)):]
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

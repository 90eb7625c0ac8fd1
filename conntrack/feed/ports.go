package feed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// DefaultPort is the TCP port of map servers, as it was of connmapperl's. Where that is
// taken they listen at FallbackPort, which a client that is given no port tries next.
const (
	DefaultPort  = 6789
	FallbackPort = 10789
)

// addresses returns where a server may listen: with the default ports, if there is none.
func addresses(addr string) ([]string, error) {
	ports := make([]string, 1, 2)
	host, port, err := net.SplitHostPort(addr)
	if ports[0] = port; err != nil {
		// There is no port, or the whole is a bare IPv6 address.
		host = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
		ports = []string{strconv.Itoa(DefaultPort), strconv.Itoa(FallbackPort)}
	}
	n, err := strconv.ParseUint(ports[0], 10, 16)
	bad := err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /[]")
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		bad = bad || err != nil
	}
	if bad {
		return nil, fmt.Errorf("feed: expected the map server as HOST or HOST:PORT, found %q", addr)
	}
	for i, port := range ports {
		ports[i] = net.JoinHostPort(host, port)
	}
	return ports, nil
}

// firstOf calls f for the first address, and for each next one when a call fails or headStart
// later, until a call succeeds. It returns the result of that call and the index of its address.
// Before, it cancels the other calls and waits for them. If none succeeds it returns the most
// helpful error: of a wrong token, else of an address where something listens, else the first.
func firstOf[T any](ctx context.Context, addrs []string, f func(ctx context.Context, addr string) (T, error)) (value T, at int, err error) {
	type result struct {
		at    int
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	begun, ended := 0, 0
	begin := func() {
		at := begun
		begun++
		go func() {
			value, err := f(ctx, addrs[at])
			results <- result{at, value, err}
		}()
	}
	begin()
	next := time.NewTimer(headStart)
	defer next.Stop()
	at = -1
	errs := make([]error, len(addrs))
	for ended < begun {
		failed := false
		select {
		case r := <-results:
			ended++
			if errs[r.at] = r.err; r.err == nil && at < 0 {
				value, at = r.value, r.at
				cancel()
			}
			failed = r.err != nil
		case <-next.C:
			failed = true // so far
		}
		if failed && begun < len(addrs) && ctx.Err() == nil {
			begin()
			next.Reset(headStart)
		}
	}
	if at >= 0 {
		return value, at, nil
	}
	for i, e := range errs[:begun] {
		if i == 0 || permanent(e) && !permanent(err) || refused(err) && !refused(e) {
			err, at = e, i
		}
	}
	return value, at, err
}

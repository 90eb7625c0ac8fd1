package main

import (
	"net/netip"
	"strings"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// complete returns a function that adds the rule, the country and, if the ports tell, the
// direction to a connection that connmapperl stored without them.
func complete(set *rules.Set, locate func(netip.Addr) (geoip.Place, bool)) func(*history.Entry) {
	countries := make(map[netip.Addr]string)
	const maxCountries = 100_000
	return func(e *history.Entry) {
		exe := e.Exe
		if exe == "" && strings.HasPrefix(e.Program, "/") {
			exe = e.Program // connmapperl stores either in one column
		}
		local, peer := e.Local.Port(), e.Peer.Port()
		rule, _ := set.Match(rules.Conn{Local: local, Peer: peer, Comm: e.Program, Exe: exe})
		e.Rule = rule.Label
		if d := direction(local, peer, rule.Type); d != "" {
			e.Direction = d
		}
		addr := e.Peer.Addr()
		if !addr.IsValid() {
			return
		}
		country, ok := countries[addr]
		if !ok {
			if p, ok := locate(addr); ok {
				country = p.Country
			}
			if len(countries) >= maxCountries {
				clear(countries)
			}
			countries[addr] = country
		}
		e.Country = country
	}
}

// direction guesses from the ports which end opened a connection. Ports of services are below
// 1024 or in the matching rule; ports of clients are in Linux's default range. It is empty if
// that is ambiguous.
func direction(local, peer uint16, rule rules.Type) string {
	service := func(port uint16, typ rules.Type) bool { return port > 0 && (port < 1024 || rule == typ) }
	client := func(port uint16) bool { return port >= 32768 && port <= 60999 }
	switch in, out := service(local, rules.Local), service(peer, rules.Peer); {
	case local == 0 || peer == 0:
		return ""
	case in && !out:
		return "in"
	case out && !in:
		return "out"
	case in && out || client(local) == client(peer):
		return ""
	case client(local):
		return "out"
	}
	return "in"
}

package main

import (
	"net/netip"
	"strings"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// complete returns what sets the rule, the country and, where ports tell, the direction of
// a connection that connmapperl has stored.
func complete(set *rules.Set, locate func(netip.Addr) (geoip.Place, bool)) func(*history.Entry) {
	countries := make(map[netip.Addr]string)
	const mostCountries = 100_000
	return func(e *history.Entry) {
		exe := e.Exe
		if exe == "" && strings.HasPrefix(e.Program, "/") {
			exe = e.Program // connmapperl has one name for both
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
			if len(countries) >= mostCountries {
				clear(countries)
			}
			countries[addr] = country
		}
		e.Country = country
	}
}

// direction guesses by the ports who has opened a connection: those of services are below
// 1024 or in the rule that matches, and those of clients are what Linux takes by itself. It
// is empty if both could be either.
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

package sqlite

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/connmapgo/connmap/history"
)

// monthsEnd is when the traffic of months ends.
var monthsEnd = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const monthsSpan = 90 * 24 * time.Hour

// months makes n connections over three months as five machines have them: of
// 50,000 peers at 3,000 places few get the most (Zipf, s = 1.1), and of 40
// programs likewise. Each call of next returns the next one, all that is known
// at its end.
func months(n int) (next func() history.Entry) {
	r := rand.New(rand.NewPCG(1, 2))
	peers := rand.NewZipf(r, 1.1, 1, 49_999)
	programs := rand.NewZipf(r, 1.3, 1, 39)
	agents := [...]string{"nas", "laptop", "web1", "web2", "pi"}
	rules := [...]string{"Webserver", "Web Surfing", "SSH In", "SSH Out", "Torrents", "Other"}
	countries := [...]string{"US", "DE", "NL", "FR", "GB", "CN", "JP", "BR", "IN", "AU"}
	ports := [...]uint16{443, 443, 443, 443, 80, 22, 993, 53, 6881, 8443}
	i := 0
	return func() history.Entry {
		p := peers.Uint64()
		h := p * 0x9e3779b97f4a7c15
		place := h % 3000
		addr := netip.AddrFrom4([4]byte{byte(1 + h>>32%223), byte(h >> 40), byte(h >> 48), byte(h >> 56)})
		if p%10 == 3 {
			addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(h >> 32), byte(h >> 40), byte(h >> 48), byte(h >> 56), 15: 1})
		}
		opened := monthsEnd.Add(-monthsSpan + time.Duration(float64(monthsSpan)/float64(n)*float64(i)))
		lived := time.Duration(r.ExpFloat64() * float64(20*time.Second))
		e := history.Entry{
			Agent: agents[r.IntN(len(agents))], Protocol: "tcp", Direction: "out",
			Local:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%5)}), uint16(32768+r.IntN(28232))),
			Peer:    netip.AddrPortFrom(addr, ports[r.IntN(len(ports))]),
			Program: fmt.Sprintf("program%d", programs.Uint64()), Exe: "/usr/bin/program",
			ASN: uint32(64496 + h%2000), Org: fmt.Sprintf("Example Networks %d", h%2000), Country: countries[place%10],
			Lat: float64(place*37%1400)/10 - 60, Lon: float64(place*91%3600)/10 - 180, Located: true,
			Rule: rules[h>>8%6], New: true, Opened: opened, Seen: opened.Add(lived), Closed: opened.Add(lived),
			Tx: uint64(r.ExpFloat64() * 5e3), Rx: uint64(r.ExpFloat64() * 5e4),
		}
		if e.Peer.Port() == 443 && p%4 > 0 {
			e.PeerName, e.PeerNameSource = fmt.Sprintf("w%d.site%d.example.com", p%7, p/7), "sni"
		}
		if i%6 == 0 {
			e.Direction, e.Protocol = "in", "udp"
		}
		i++
		return e
	}
}

func take(next func() history.Entry, n int) []history.Entry {
	all := make([]history.Entry, n)
	for i := range all {
		all[i] = next()
	}
	return all
}

// fleet makes the connections of next those of 50 machines with 200 programs, some of them in
// containers, and with all that a map server knows of places.
func fleet(next func() history.Entry) func() history.Entry {
	r := rand.New(rand.NewPCG(3, 4))
	programs := rand.NewZipf(r, 1.3, 1, 199)
	return func() history.Entry {
		e := next()
		agent, program := r.IntN(50), programs.Uint64()
		e.Agent, e.Program, e.Exe = fmt.Sprintf("host%d.example.com", agent), fmt.Sprintf("program%d", program), fmt.Sprintf("/usr/bin/program%d", program)
		local := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + agent)})
		if e.Peer.Addr().Is6() {
			local = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: 1, 15: byte(1 + agent)})
		}
		e.Local = netip.AddrPortFrom(local, e.Local.Port())
		if program%5 == 4 {
			e.Container = fmt.Sprintf("container%d", program)
		}
		e.Precision = "city"
		return e
	}
}

//go:build linux

package traffic

import "golang.org/x/sys/unix"

// Sizes of the bulk of a connection, and of datagrams.
const (
	bulk      = 64 << 20
	datagram  = 1400
	datagrams = 24_000
)

// Scenarios returns all scenarios, whatever this kernel supports.
func Scenarios() []Scenario {
	var all []Scenario
	add := func(proto uint8, tolerance float64, scenarios []Scenario) {
		for _, s := range scenarios {
			s.Proto = proto
			if s.Tolerance == 0 {
				s.Tolerance = tolerance
			}
			all = append(all, s)
		}
	}
	add(unix.IPPROTO_TCP, tolerance(unix.IPPROTO_TCP, true), tcpScenarios())
	// Most servers have one socket for all clients.
	add(unix.IPPROTO_UDP, tolerance(unix.IPPROTO_UDP, false), udpScenarios())
	all = append(all, otherScenarios()...)
	return all
}

func tcpScenarios() []Scenario {
	const half = bulk / 2
	return []Scenario{
		tcp{up: 100, down: bulk}.as("tcp-download", "bulkdown"),
		tcp{up: bulk, down: 100}.as("tcp-upload", "bulkup"),
		tcp{up: half, down: half, client: duplex, server: duplex}.as("tcp-duplex", "duplex"),
		tcp{up: half, down: half}.as("tcp-ipv6", "tcp6").over6(),
		tcp{up: 30, down: 30, client: drip, server: drip}.as("tcp-drip", "drip"),
		tcp{up: 100, down: half, server: answerSendfile}.as("tcp-sendfile", "sendfile"),
		tcp{up: 100, down: half, client: requestSplice, server: answerSplice}.as("tcp-splice", "splice"),
		tcp{up: half, down: half, client: duplex, server: echoSplice}.as("tcp-splice-echo", "relay"),
		tcp{up: half, down: half, client: requestURing, server: answerURing}.as("tcp-io_uring", "tcpuring"),
		tcp{up: half, down: half, client: directly(true), server: directly(false)}.as("tcp-io_uring-direct", "tcpdirect"),

		tcp{up: 200, down: 500, conns: 2000, sequence: true}.as("tcp-sequence", "sequence").short(),
		tcp{up: 2000, down: 10_000, conns: 200}.as("tcp-burst", "burst"),
		{
			Name: "tcp-processes", key: "procs", Short: true,
			client: spawn, server: tcp{up: procsUp, down: procsDown, conns: procs, sequence: true}.serve, worker: workProc,
		},
		{Name: "tcp-reset", key: "reset", Short: true, client: reset, server: acceptReset},

		tcp{up: 1 << 20, down: 1 << 20}.as("tcp-loopback", "tcplo").loopback(),
		tcp{up: 1 << 20, down: 1 << 20}.as("tcp-loopback-ipv6", "tcplo6").loopback().over6(),
		tcp{up: 1 << 20, down: 1 << 20}.as("tcp-container", "tcpcont").container(),
		tcp{up: 1 << 20, down: 1 << 20, anyAddr: true}.as("tcp-mapped", "tcpmapped"),
		tcp{up: 1 << 20, down: 1 << 20, bind: true}.as("tcp-bound", "tcpbound"),

		shared("tcp-handed-over", "handover", false, false),
		shared("tcp-handed-over-kept", "handkept", true, false),
		shared("tcp-shared", "shared", true, true),

		tcp{up: 1 << 20, down: 1 << 20, listenMPTCP: true}.as("tcp-mptcp-listener", "mptcplsn"),
		tcp{up: half, down: half, listenMPTCP: true, dialMPTCP: true}.as("mptcp", "mptcp"),
	}
}

func udpScenarios() []Scenario {
	return []Scenario{
		udp{up: datagrams, upSize: datagram, window: 64, client: connected, server: bound}.as("udp-upload", "udpup"),
		udp{up: 1, upSize: 100, down: datagrams, downSize: datagram, window: 64, client: connected, server: bound}.as("udp-download", "udpdown"),
		udp{up: 500, upSize: 1200, down: 2000, downSize: 1200, window: 16, clients: 5, port: 443, client: unbound, server: unbound}.as("udp-443", "quic"),
		udp{up: 200_000, upSize: 16, window: 256, client: connected, server: bound}.as("udp-flood", "flood"),
		udp{up: 4000, upSize: datagram, down: 4000, downSize: datagram, window: 64, client: connected, server: bound}.as("udp-ipv6", "udp6").over6(),
		udp{up: 4000, upSize: 1200, down: 4000, downSize: 1200, window: 32, client: unbound, server: unbound}.as("udp-ipv6-unconnected", "udp6free").over6(),
		udp{up: 4000, upSize: 500, down: 4000, downSize: 500, window: 32, client: connected, server: unbound}.as("udp-connected", "udpconn"),
		udp{up: 4000, upSize: 500, down: 4000, downSize: 500, window: 32, client: unbound, server: bound}.as("udp-unconnected", "udpfree"),
		udp{up: 4000, upSize: 500, down: 4000, downSize: 500, window: 32, client: withoutAddress, server: bound}.as("udp-recv-without-address", "udpnoaddr"),
		udp{up: 50, upSize: 700, window: 50, silent: true, client: connected, server: bound}.as("udp-one-way", "oneway"),
		udp{up: 500, upSize: 9000, down: 500, downSize: 9000, window: 8, client: connected, server: bound}.as("udp-fragments", "fragments"),
		udp{up: 1, upSize: 40, down: 1, downSize: 120, window: 1, port: 53, clients: 500, sequence: true, client: connected, server: bound}.as("udp-dns", "dns").short(),

		udp{up: datagrams, upSize: 1200, window: 96, client: batched, server: bound}.as("udp-sendmmsg", "sendmmsg"),
		udp{up: datagrams, upSize: 1200, window: 96, client: batchedConnected, server: bound}.as("udp-sendmmsg-connected", "sendmmsgc"),
		udp{up: datagrams, upSize: 1200, window: 96, client: connected, server: batched}.as("udp-recvmmsg", "recvmmsg"),
		udp{up: 8000, upSize: 1200, down: 8000, downSize: 1200, window: 64, client: segmented, server: bound}.as("udp-segments", "segments"),
		udp{up: 8000, upSize: 1200, down: 8000, downSize: 1200, window: 32, client: uringUDP, server: uringUDP}.as("udp-io_uring", "udpuring"),

		udp{up: 1000, upSize: 500, down: 1000, downSize: 500, window: 32, client: connected, server: bound}.as("udp-loopback", "udplo").loopback(),
		udp{up: 1000, upSize: 500, down: 1000, downSize: 500, window: 32, client: unbound, server: unbound}.as("udp-loopback-ipv6", "udplo6").loopback().over6(),
		udp{up: 1000, upSize: 500, down: 1000, downSize: 500, window: 32, client: connected, server: bound}.as("udp-container", "udpcont").container(),
		udp{up: 1000, upSize: 500, down: 1000, downSize: 500, window: 32, client: unbound6, server: unbound6}.as("udp-mapped", "udpmapped"),
		udp{up: 1000, upSize: 500, down: 1000, downSize: 500, window: 32, client: connected6, server: unbound6}.as("udp-mapped-connected", "udpmappdc"),
	}
}

func otherScenarios() []Scenario {
	of := func(proto uint8, s Scenario) Scenario {
		s.Proto, s.Tolerance = proto, tolerance(proto, false)
		return s
	}
	pings := udp{up: 100, upSize: icmpHeader + 56, window: 1}
	byPing, byRaw := pings, pings
	byPing.client, byRaw.client = ping, rawICMP
	association := sctp{up: 1 << 20, down: 1 << 20}
	return []Scenario{
		of(unix.IPPROTO_ICMP, Scenario{Name: "icmp-ping", key: "ping", client: byPing.dial}),
		of(unix.IPPROTO_ICMP, Scenario{Name: "icmp-raw", key: "rawicmp", client: byRaw.dial}),
		of(unix.IPPROTO_SCTP, Scenario{Name: "sctp", key: "sctp", client: association.dial, server: association.serve}),
		of(protoTest, udp{up: 1000, upSize: 1000, down: 1000, downSize: 1000, window: 32, client: rawIP, server: rawIP}.as("ip-raw", "rawip")),
	}
}

func (t tcp) as(name, key string) Scenario {
	s := Scenario{Name: name, key: key, client: t.dial, server: t.serve, mptcp: t.dialMPTCP}
	if s.mptcp {
		s.Tolerance = 0.5 // late data are sent again, by another subflow or the same
	}
	return s
}

func (u udp) as(name, key string) Scenario {
	return Scenario{Name: name, key: key, client: u.dial, server: u.serve}
}

// shared is a connection whose server end a worker uses, see serveByWorker. The
// client does not wait for either to read what it sends.
func shared(name, key string, keep, both bool) Scenario {
	t := tcp{up: shareUp, down: shareDown, client: duplex}
	return Scenario{Name: name, key: key, client: t.dial, server: serveByWorker(keep, both), worker: work}
}

func (s Scenario) over6() Scenario     { s.ipv6 = true; return s }
func (s Scenario) loopback() Scenario  { s.Loopback = true; return s }
func (s Scenario) container() Scenario { s.Container = true; return s }
func (s Scenario) short() Scenario     { s.Short = true; return s }

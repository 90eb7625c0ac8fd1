// Package conntrack reports the network connections of the local host, with their programs
// and bytes. It reads sockets; it neither uses nor needs netfilter's connection tracking
// (nf_conntrack).
//
// [New] returns a [Collector]. [Collector.Snapshot] lists the present connections, and
// [Collector.Events] reports how they change:
//
//	c, err := conntrack.New(conntrack.Options{})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	for e, err := range c.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		if e.Kind == conntrack.Lost {
//			fmt.Println(e.Lost, "connections were lost")
//			continue
//		}
//		fmt.Println(e.Kind, e.Conn.Process.Comm, e.Conn.Peer)
//	}
//
// # Connections and flows
//
// A connection is a TCP socket that is established or being closed, or a flow. A flow is the
// traffic between one socket of another protocol and one peer. So a UDP server with one socket
// has a flow for each of its clients.
//
// Listening sockets, attempts (SYN_SENT, SYN_RECV) and TIME_WAIT are not connections. A
// connection of the host to itself over addresses other than loopback is reported twice, once
// for each socket. Each TCP subflow of MPTCP is one connection. Two one-to-one SCTP sockets
// have a flow until they shut it down or abort it.
//
// A flow opens with its first packet, or when a poll first finds its connected socket. It
// closes with its socket. The flow of an unconnected socket closes after a minute without a
// packet, which is noticed within 75 seconds. [EBPF] closes flows earlier if there are too
// many: of one unconnected socket 8,192 flows are followed at a time, of all 16,384. Then the
// flow that has been idle for longest closes, of that socket or of the one with most flows.
// Its next packet opens it again, so no byte is missed.
//
// # Backends
//
// A backend is a way to read sockets. [New] takes the best that works here, or the one in
// [Options]. [Info] says why it is not a better one. docs/backends.md lists what each backend
// sees of 50 kinds of traffic.
//
//   - [EBPF] loads programs into the Linux kernel. They report TCP, UDP, ICMP, SCTP, raw IP
//     and packet sockets of all network namespaces. They see short connections, and all
//     bytes, also those of sendfile, splice, sendmmsg and io_uring. Opens and closes are
//     reported within 0.1 seconds, other changes within an interval.
//   - [Diag] polls the kernel's sock_diag. It needs no privileges.
//   - [Proc] polls the tables in /proc/net, for kernels without sock_diag and sandboxes
//     without netlink.
//   - [IPHelper] polls Windows' GetExtendedTcpTable. It reports neither UDP, whose table has
//     no peers, nor bytes or users. It is experimental: it has run under wine, not on
//     Windows. Paths of other users' programs need administrator's rights.
//   - [PCBList] polls macOS' sysctl lists net.inet.tcp.pcblist_n and net.inet.udp.pcblist_n.
//     It reports no bytes. It is experimental: it is written from Apple's published source
//     and has not run on a Mac. The owner is the process that used the socket last.
//
// Backends that poll miss connections shorter than a poll, and cannot count them. They see
// neither unconnected UDP sockets nor the bytes of UDP. On Linux they see the network namespace
// in which New was called. There, names of other users' programs need root, or CAP_SYS_PTRACE
// and CAP_DAC_READ_SEARCH.
//
// EBPF needs Linux 5.12, BTF, the PID namespace of the host, and root or the capabilities
// CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. Protocols other than TCP need Linux 5.15,
// CAP_NET_ADMIN and the cgroup namespace of the host. Info says what is missing.
// docs/capture.md describes when events are late or lost, what byte counts include, and which
// tunnels are followed.
//
// # Owners and directions
//
// The owner of a connection is the process that last sent or received. Until then, an accepted
// connection belongs to the listening process. A Close has the last owner, with its name,
// program and user at that time, even if another process held the socket to its end. Traffic
// of the kernel itself, as for a network file system, has the owner "kernel" with EBPF.
// A subflow of MPTCP has the owner of its connection; if another process took that over,
// the Close may name the one that accepted it.
//
// EBPF also reports the other processes that hold the socket, within 10 seconds of the fork.
// Other backends take the process in the system's table, or the first one found to hold the
// socket. They search again when that has ended.
//
// The direction is exact with EBPF: it depends on who sent the first packet. Other backends,
// and EBPF for connections older than the collector, guess when they first see a connection.
// It is incoming if its local port is listened on then, or was at the poll before, or is at
// the next one.
//
// # Names
//
// With [Options.Names], EBPF learns by which names programs ask for peers. It reads questions and
// answers of DNS, mDNS and LLMNR, and what programs send first with TLS, QUIC and HTTP, on any port;
// TLS may follow when a program has asked for it, as mail does by STARTTLS. What is sent to a proxy
// for another peer gives no name.
//
// An answer counts only if it comes from the server that the socket has asked, and of mDNS only one
// for a name in .local. It counts for connections that open after it, ten minutes longer than it is
// valid and at least for twenty. A name that becomes known later comes with an Update.
// At most 32,768 addresses have a name at a time, each for the process and for the host; older ones
// give way.
//
// Nobody has verified these names: each is what a program said, or what an answer said to it. Names
// longer than 253 bytes, or with other characters than letters, digits, hyphens, underscores and
// dots, are none.
package conntrack

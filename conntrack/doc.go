// Package conntrack reports the network connections of the local host, with
// their programs and bytes, by reading its sockets. It neither uses nor needs
// netfilter's connection tracking (nf_conntrack).
//
// New gives a [Collector]. [Collector.Snapshot] lists the connections of the
// moment, [Collector.Events] follows them:
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
//		fmt.Println(e.Kind, e.Conn.Process.Comm, e.Conn.Peer)
//	}
//
// # What is a connection
//
// A connection is a TCP socket that is established or being closed, or a flow: what a
// socket of another protocol sends to one peer and receives from it. So a UDP server with
// one socket has a connection with each of its clients. Listening sockets, attempts
// (SYN_SENT, SYN_RECV) and the remains of closed connections (TIME_WAIT) are none. A
// connection of the host to itself over addresses other than loopback is two connections,
// one for each socket. Each TCP subflow of MPTCP is one. Two one-to-one sockets of SCTP have a
// flow until they shut it down or abort it.
//
// A flow opens with its first packet, or when a poll first finds its connected socket. It
// closes with its socket. If the socket is not connected to the peer, it closes after a
// minute without a packet, which is noticed within 75 seconds. With [EBPF] it may close
// earlier: of one unconnected socket 8,192 flows are followed at a time, of all 16,384. One
// more closes the flow that has been idle for longest, of the same socket or of one that has
// most. Another packet opens it again, so that no byte is missed.
//
// # Backends
//
// A backend reads sockets in one way. There are three on Linux, and one each on Windows and
// macOS. New takes the best that works, or the one in [Options]; [Info] says why it is not a
// better one. A table in docs/backends.md has what each sees of 50 kinds of traffic.
//
//   - [EBPF] loads programs into the Linux kernel, which report each connection of every
//     network namespace as it opens and closes: TCP, UDP, ICMP, SCTP, raw IP and packet
//     sockets, with bytes. It sees connections however short, and bytes whatever system
//     call sends them, such as sendfile, splice, sendmmsg and io_uring. It needs Linux
//     5.12, BTF, the PID namespace of the host, and root or the capabilities CAP_BPF,
//     CAP_PERFMON and CAP_NET_ADMIN. UDP and the others need Linux 5.15, CAP_NET_ADMIN
//     and the cgroup namespace of the host. To notice within an interval that a program
//     takes over another's socket needs Linux 6.3, or functions that can be traced, as
//     on amd64. Info says what is missing. Opens and closes are reported within 0.1
//     seconds, changes within an interval. After ten idle intervals it may take ten more
//     until counters move again, if no system call that sends or receives is seen, as
//     with sendfile and splice. Bytes of SCTP include the headers of its chunks and its
//     acknowledgements. Some kernels that are locked down do not let programs visit
//     sockets: there counters come from a walk over all open files, at each interval if
//     that takes a twentieth of it or less.
//   - [Diag] polls the kernel's sock_diag, without privileges.
//   - [Proc] polls the tables in /proc/net, for kernels without sock_diag and sandboxes
//     without netlink.
//   - [IPHelper] polls the tables of TCP sockets of GetExtendedTcpTable of Windows, with the
//     process of each. It is experimental: it has run under wine, not on Windows. It
//     knows no UDP, since Windows' table of UDP sockets has no peers, no bytes and no
//     users. Programs of other users have a path only for administrators.
//   - [PCBList] polls the sysctl lists net.inet.tcp.pcblist_n and net.inet.udp.pcblist_n
//     of macOS, with the process that used each socket last. It is experimental: it is
//     written from Apple's published source and has not run on a Mac. It knows no bytes.
//
// Backends that poll miss what opens and closes between two polls, and cannot count it. They
// see neither unconnected UDP sockets nor the bytes of UDP. On Linux they see the network
// namespace in which New was called. There, programs of other users have a name only for
// root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
//
// # Owners and directions
//
// The owner of a connection is the process that last sent or received. A connection that was
// accepted belongs to the listening process until then. A Close has the last owner, with the
// name, program and user that it had then, even if another process held the socket to its
// end. What the kernel sends for itself, as for a network file system, has the owner
// "kernel" with [EBPF], and a subflow of MPTCP the owner of the connection. If that was handed
// to another process, the Close may name the one that accepted it. [EBPF] also reports the
// other processes that hold the socket, within 10 seconds of the fork. The other backends
// take the process that the system's table names, or the first one found to hold the socket,
// and look again when that has ended.
//
// The direction is exact with [EBPF]: who sent the first packet. For connections that are
// older than the collector, and with the other backends, it is decided when they are first
// seen: they came in if the host listens on their local port, did so at the poll before, or
// does at the next one.
//
// # What is lost
//
// If more happens than a consumer of [Collector.Events] can take, the kernel's ring of 1 MiB
// fills up, some 6,000 events. An Open or Close event without room is late, and [Info] counts
// it: within a second the collector finds which connections exist, and a connection whose
// Open was late is reported in full when it closes. A connection is lost if there is no room
// for that either. Lost ones are counted, and an event of kind [Lost] says how many. A
// connection is not counted if its Open was late and the kernel called no program for its
// close. Flows are found by the next pass. They are lost only if one socket opens more than
// 32,768 between two passes, or all more than the kernel's table of 262,144 has room for.
// Such a socket counts as one lost connection a pass, and a warning names its program.
//
// The kernel does not call the programs of [EBPF] for some packets that come in an interrupt.
// At each poll the collector therefore compares how many TCP connections the kernel has with
// how many it knows, and looks for those that are gone. A close that no program saw is
// reported within two polls, and in a storm of openings and closes within 10 seconds; its
// bytes are those of the last poll. Where sockets cannot be visited, sock_diag is asked about
// connections that no process is found to hold, and for their counters, every 10 seconds or
// more seldom.
//
// Since Linux 6.3, what a program sends by packet sockets (AF_PACKET) is seen from a moment
// after one of them first sends until a minute after the last. Not seen are the first packet of
// each socket, what they receive, frames with a VLAN tag of their own, and what leaves past
// the queues of devices (PACKET_QDISC_BYPASS, AF_XDP). Their flows close a minute after the
// last packet, not with the socket.
//
// Datagrams that a socket has no room for do not count as received. Before Linux 6.10 they
// do, and so do those that a filter of the socket drops or cuts. A raw socket that sends echo
// requests counts all echo replies of that peer. An unconnected UDP socket whose source
// address is translated has the address that leaves.
//
// # Tunnels
//
// The packets that a tunnel sends and receives pass no socket of a program. [EBPF] knows them
// from their device: VXLAN, GENEVE, WireGuard, GRE (gre, gretap, ip6gre, ip6gretap) and IP in
// IP (ipip, sit, ip6tnl). Each peer of such a device is a flow, with the owner "kernel" and
// the device's name as its Exe. What goes through the tunnel is reported besides.
//
//   - Counters are read once in an interval. New devices are looked for every 10 seconds
//     or more seldom; what such a device has sent until then counts. A flow closes with its
//     device, without what that sent since the last poll.
//   - Bytes are those of the packets inside, with their IP headers, as the device counts
//     them; gretap also counts the Ethernet headers of what it receives. WireGuard counts
//     its own packets instead, without headers of IP and UDP.
//   - Ports are those on which the two listen. VXLAN and GENEVE vary the ports they send from.
//   - The direction is out if the device has sent something by the poll at which the
//     flow opens: who sent first is not known.
//   - If no local address is set, it is that of the route to the peer. An unspecified one
//     is not known, as for a device that was moved out of the network namespace from which
//     it sends.
//   - If a VXLAN device has several remotes, those that it sends to, or has learned from,
//     are reported without bytes.
//   - Network namespaces are found by their processes and in /run/netns. Up to 256, with
//     1,024 tunnels, are read, and the log says if there are more; of one tunnel 1,024 peers
//     are reported. Namespaces other than the collector's need CAP_SYS_PTRACE and
//     CAP_SYS_ADMIN, which Info does not say.
//
// Not reported are tunnels whose packets bring the peer along (external devices, as of Open
// vSwitch or Cilium), groups of next hops, GRE and IP in IP without a remote or inside UDP
// (FOU, GUE), IPsec, L2TP, PPTP and others.
package conntrack

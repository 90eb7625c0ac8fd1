// Package conntrack reports the network connections of the local host, with
// their programs and bytes, by reading its sockets. It neither uses nor needs netfilter's connection
// tracking (nf_conntrack).
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
// A TCP socket that is established or being closed; and a flow, which is what a
// socket of another protocol sends to and receives from one peer. A UDP server
// with one socket has a connection with each of its clients. Listening sockets,
// attempts (SYN_SENT, SYN_RECV) and the remains of closed connections
// (TIME_WAIT) are none. A connection of the host to itself over addresses other
// than loopback is two connections, one for each socket.
//
// A flow begins with its first packet, or when its connected socket is first found by a
// poll, and ends when its socket is closed, or
// when nothing has been sent for a minute and the socket is not connected to
// the peer; that is noticed within 75 seconds of the last packet. With [EBPF] it
// may end earlier: of one unconnected socket 8,192 flows are followed at a time, of
// all 16,384. A packet to a peer beyond that ends the flow that has been idle for
// longest, of the same socket or of one that has most. Another packet opens a flow
// anew, so that no byte is missed. Of connections made by MPTCP each TCP subflow is
// one. What two sockets of SCTP in the style of TCP have is a flow until they shut it
// down or abort it.
//
// # How sockets are read
//
// There are four backends on Linux, and one each on Windows and macOS; New takes the
// best that works, or the one that is asked for, and [Info] says why it is not a better
// one.
//
//   - [EBPF] loads programs into the Linux kernel that tell of each connection
//     of every network namespace as it opens and closes, of TCP, UDP, ICMP, SCTP,
//     raw IP and packet sockets, with bytes. It sees connections however short, and
//     whatever system calls send: also sendfile, splice, sendmmsg and io_uring.
//     It needs BTF, the PID namespace of the host, and root or the capabilities
//     CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. It runs from Linux 5.12 on. UDP and
//     the others need 5.15, CAP_NET_ADMIN and the cgroup namespace of the host;
//     to notice within an interval that a program takes over another's socket
//     needs 6.3, or functions that can be traced, as on amd64. What is missing,
//     Info says. Bytes of SCTP include the headers of its chunks and its
//     acknowledgements. What opens and closes is reported within 0.1 seconds,
//     what changes within an interval. The counters of a connection that was idle
//     for ten intervals may take ten to move again, if no system call that sends
//     or receives is seen, as with sendfile and splice.
//     Some kernels that are locked down do not let sockets be visited: there the
//     counters come from a walk over all open files, at each interval if that takes
//     a twentieth of it or less.
//   - [Diag] polls the kernel's sock_diag, without privileges.
//   - [Proc] polls the tables in /proc/net, for kernels without sock_diag and
//     sandboxes without netlink.
//   - [SS] polls by running ss(8).
//   - [IPHelper] polls the tables of TCP sockets that GetExtendedTcpTable of Windows
//     gives, with the process of each. It is experimental: it has run under wine, not
//     on Windows. It sees no UDP, since Windows' table of UDP sockets has no peers, no
//     bytes and no users. Programs of other users have a path only for administrators.
//   - [PCBList] polls the lists of macOS' sysctl net.inet.tcp.pcblist_n and
//     net.inet.udp.pcblist_n, with the process that used each socket last. It is
//     experimental: it is written from Apple's published source and has not run on a
//     Mac. It sees no bytes.
//
// Backends that poll miss what opens and closes between two polls, and cannot
// know how much that is. They see neither unconnected UDP sockets nor the bytes of
// UDP, and on Linux the network namespace in which New was called, as ss(8) does;
// there programs of other users have a name only for root, or with the
// capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
//
// # What is lost
//
// If more happens than a consumer of [Collector.Events] can take, the kernel's
// ring of 1 MiB, some 6,000 events, fills up. An opening or an end that finds no room is
// late, which [Info] counts: within a second the collector finds what is there and what is
// gone, and a connection whose opening found no room is reported in full when it closes.
// A connection is lost if that finds no room either; those are counted and told by an
// event of kind [Lost]. Flows are found by the next pass, not lost, unless
// one socket opens more than 32,768 between two passes, or all more than the
// kernel's table of 262,144 has room for. Such a socket counts as one lost connection a
// pass, and a warning names its program.
//
// The kernel does not call the programs of [EBPF] for some packets that come in an
// interrupt. The collector therefore compares, at each poll, how many TCP connections
// the kernel has with how many it knows, and looks for those that are gone. A close
// that no program saw is reported within two polls, and in a storm of openings and
// closes within 10 seconds; its bytes are those of the last poll. Where sockets cannot
// be visited, sock_diag is asked, every 10 seconds or more seldom, about connections
// that no process is found to hold, and for their counters.
//
// Since Linux 6.3, what a program sends by packet sockets (AF_PACKET) is seen from a
// moment after one of them first sends until a minute after the last; the first packet of each socket, what
// they receive, frames with a VLAN tag of their own, and what leaves past the queues of
// devices (PACKET_QDISC_BYPASS, AF_XDP) is not. Their flows end a minute after the last
// packet, not with the socket.
//
// Datagrams that a socket has no room for do not count as received; before Linux 6.10
// they do, and so do those that a filter of the socket drops or cuts. A raw socket that
// sends echo requests counts all echo replies of that peer, and an unconnected UDP socket
// whose source address is translated has the address that leaves.
//
// # Tunnels
//
// The packets that a tunnel sends and receives pass no socket of a program, and [EBPF]
// knows them from its device: VXLAN, GENEVE, WireGuard, GRE (gre, gretap, ip6gre,
// ip6gretap) and IP in IP (ipip, sit, ip6tnl). Each peer of such a device is a flow, with
// the owner "kernel" and the device's name as its Exe. What goes through the tunnel is
// told besides, as ever.
//
//   - Counters are read once in an interval. New devices are looked for every 10 seconds
//     or more seldom; what such a device has sent until then counts. A flow ends with its
//     device, and what that sent since the last poll is not told.
//   - Bytes are those of the packets inside, with their IP headers, as the device counts
//     them; gretap also counts the Ethernet headers of what it receives. WireGuard counts
//     its own packets instead, without headers of IP and UDP.
//   - Ports are those on which the two listen. VXLAN and GENEVE vary the ports they send from.
//   - The direction is out if the device has sent something by the poll at which the
//     flow opens: who sent first is not known.
//   - If no local address is set, it is that of the route to the peer; an unspecified one
//     is not known, as of a device that was moved out of the network namespace from which
//     it sends.
//   - If a VXLAN device has several remotes, those that it sends to, or has learned from,
//     are told without bytes.
//   - Network namespaces are found by their processes and in /run/netns. Up to 256, with
//     1,024 tunnels, are looked into, and the log says if there are more; of one tunnel
//     1,024 peers are told. Namespaces other than the collector's need CAP_SYS_PTRACE and
//     CAP_SYS_ADMIN, which Info does not say.
//
// Not told are tunnels whose packets bring the peer along (external devices, as of Open
// vSwitch or Cilium), groups of next hops, GRE and IP in IP without a remote or inside UDP
// (FOU, GUE), IPsec, L2TP, PPTP and others.
//
// # Owners and directions
//
// The owner of a connection is the process that last sent or received; a
// connection that was accepted belongs to the process that listened until then.
// A close names the last owner, with the name, program and user that it had then, also
// if that has ended since and another process held the connection to its end.
// What the kernel sends for itself, as for a network file system, has the owner
// "kernel" with [EBPF], and a subflow of MPTCP the owner of the connection. If that was
// handed to another process, the close may name the one that accepted it.
// [EBPF] also reports the other processes that hold the socket, within 10 seconds of
// the fork. The backends that
// poll take the first process found to hold it, and look again when that has
// ended, or the one that the system's table names.
//
// The direction is exact with [EBPF]: who sent the first packet. Of connections
// that are older than the collector, and with the other backends, it is decided
// when they are first seen: they came in if their local port is one on which
// the host listens, or did at the poll before, or does at the next one.
package conntrack

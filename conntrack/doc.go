// Package conntrack reports the TCP and UDP connections of the local host by
// reading its sockets. It neither uses nor needs netfilter's connection
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
// A TCP socket that is established or being closed, and a UDP socket that was
// connected to a peer. Listening sockets, attempts (SYN_SENT, SYN_RECV) and
// the remains of closed connections (TIME_WAIT) are none; neither are the
// peers of unconnected UDP sockets, such as those of most servers.
// A connection of the host to itself over addresses other than loopback is two
// connections, one for each socket.
//
// # What is seen
//
// The backend [Diag] polls: a connection that opens and closes between two
// polls is missed, and its number is not known. It sees the network namespace
// in which New was called, as ss(8) does: the sockets of containers with a
// network of their own are not in it. Programs of other users have a name only
// for root, or with the capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH;
// [Info] says when they have none.
//
// The first program found that holds a socket counts as its owner. A socket
// that is handed on is looked up again when that program has ended.
//
// The direction is decided when a connection is first seen: it came in if its
// local port is one on which the host listens, or did at the poll before.
package conntrack

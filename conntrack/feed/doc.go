// Package feed carries the connections of many hosts to one map server: a
// [Client] reports what a collector sees, a [Server] hands it to a [Handler].
// It neither collects nor shows connections, and a server never sends
// commands: nothing but greetings, heartbeats and acknowledgements travels back.
//
// # Pairing
//
// The server keeps a certificate and a 128-bit secret. Its [Token] holds the
// secret and a pin, the beginning of the SHA-256 of the certificate's public
// key. A client checks the pin inside the TLS handshake, before anything made
// from the secret leaves, and then proves that it knows the secret without
// sending it:
//
//	HMAC-SHA-256(HKDF-SHA-256(secret, salt pin, info role), TLS exporter "EXPERIMENTAL connmap")
//
// The roles are "connmap agent" and "connmap server"; the server answers with
// its own proof. A proof is bound to one TLS channel (RFC 5705, RFC 8446) and
// useless on another: who relays cannot join.
//
// A client shows a key of its own in the handshake, an Ed25519 certificate in which
// nothing but the key counts. A server with a [Registry] takes in the key with the first
// proof that is right. From then on it knows the client by it: it answers any proof by an
// empty one, so that tokens can expire and change, and calls it by the name that it
// joined with, whatever it says later. A key that is revoked is turned away, also with a
// token that works. A client without a key needs a token that works each time.
//
// A server may also let in by a password and its certificate. The secret is then
// PBKDF2-HMAC-SHA-256(password, salt pin, 600,000 rounds), and all else the same.
//
// # Frames
//
// Over TLS 1.3 with ALPN connmap/1 both sides send frames: the length as a
// big-endian uint32, then a CBOR array (RFC 8949) whose first element is the
// type. Before authentication a frame holds at most 64 bytes, then 256 KiB.
//
//	1 proof   [1, proof]                       both, first; empty from a server that knows the key
//	2 hello   [2, {1: version, 2: name, 3: boot, 4: wall, 5: backend, 6: limited, 7: before}] client
//	3 welcome [3, {1: version, 2: connections, 3: acks, 4: last, 5: recorded, 6: states, 7: heard, 8: runs}] server
//	4 full    [4, seq, more, [conn, ...]]       client: all connections; more: it goes on
//	5 delta   [5, seq, [[kind, time, conn], ...], lost] client: what changed, and events lost
//	6 ping    [6]                              client every 10 s, answered by the same
//	7 bye     [7, code]                        server, before it closes
//	8 ack     [8, seq]                         server: all deltas up to seq are recorded
//	9 ask     [9, run]                         client: what of a run is recorded?
//	10 answer [10, run, number]                server: all its deltas up to number; zero: none
//	11 again  [11, seq, [[kind, time, conn], ...], lost, run, number] client: delta number of another run
//
// Frames of each kind, byte for byte, are in testdata/vectors.txt.
//
// The version is 1. boot is 16 random bytes, new with each run of a client, and before that of
// the run before, if it is known: a link takes the place of an older one with one of them. wall is the client's
// clock, seq grows with each full and delta of one boot, connections is how
// many the server takes. kind is 1 for open, 2 for update and 3 for close.
// code is 1: wrong token or password, 2: too many agents, 3: damaged frame, 4: revoked, 5: another
// client with the same key took the place, 6: too many connections of all agents, 7: join
// again, 8: too many wrong tokens or passwords came from this address, 9: not approved, 10: too
// many new keys, 11: too many passwords are tried. A conn is
//
//	[id, proto, direction, local, peer, pid, comm, exe, container, uid, tx, rx, rtt, opened]
//
// with addresses as 4 or 16 bytes and 2 of the port, direction 0 for unknown, 1 for in and
// 2 for out, plus, if states in welcome is true, four times the kernel's number of the
// state of a TCP socket, rtt in microseconds,
// opened, wall and the time of an event in microseconds of Unix time, and texts of at
// most 256 bytes.
//
// A client keeps each close, which tells all of its connection, until it is
// acknowledged, if acks in welcome is true, and so it does with what it told as lost.
// recorded is the number of the last delta of this boot that the server has recorded, also
// before it was started anew: it counts as acknowledged. heard is that of the last one
// that the server's process has taken in: up to there it acknowledges later, by this link.
// What comes after both, and what closed meanwhile, the client sends in a delta before the
// full: a server that was started anew may be told of an end twice, and of one whose
// opening it has not seen. last is heard for clients that do not know that: they send ends
// that were heard again, but not losses. A client keeps 30,000 ends, and if it has a spool
// 64 MiB more on disk, also from one run to the next; those that it has no room for it
// counts in lost. Ends from the spool have other ids than before.
//
// A client may end, or be killed, before the server acknowledges what it has recorded. The
// spool therefore keeps each delta with its run and its number in that run. Deltas that were
// never sent have a random run of their own. A file of the spool is a CBOR sequence (RFC 8742)
// of [number, lost, [[kind, time, conn], ...]].
//
// If runs in welcome is true, the next run of the client asks what is recorded of a run, and
// sends the rest as again. The server answers once all that it received of that run is
// recorded. Of an again it records both numbers: that of the link and that of the earlier run.
// To other servers a client sends all of the spool as deltas, which may repeat.
//
// Frames of other types and other keys of hello and welcome are
// skipped. Who hears nothing for 30 s closes.
//
// # Limits
//
// A server takes 1,000 agents with 20,000 connections each and a million together; when
// that is exceeded the agent that has the most goes. Whoever sends more than 20 frames a
// second, after a burst of 60, waits.
//
// Joining takes at most 10 s. 512 connections at a time may be about to join, and as many
// more from addresses from where an agent with a key joined last; fewer if there are few file
// descriptors (field MaxFiles). One more displaces another: of some that are picked at random
// one of the network (IPv4 /24 or IPv6 /48), and there of the source (IPv4 address or IPv6
// /64), that has most of them, and of those one that has sent nothing, then one whose key is
// not known. If that source is its own it is turned away itself, unless the other one has been
// there for two seconds.
//
// After 5 wrong tokens or passwords in a minute a source needs a known key. After 100 of all
// sources each wrong one is answered after two seconds. All sources together may try 150
// passwords a second, after a burst of 1,000; tokens, which cannot be guessed, are not limited
// so.
//
// Where there are as many agents as may be, links without a key give way to those that have
// one, and to those of a source that has fewer of them; keys give way to keys that are known
// for longer. New keys within a minute are at most as many as agents may be, and half of
// that, or 100, from one source. A server may ask that somebody approves new keys (field
// Approve): of those that wait there are at most 1,000, and the oldest of the network that has
// most makes room. Names differ in more than blanks, the case of letters, marks on them, and
// letters of Greek, Cyrillic and the like that look like Latin ones; an agent without
// a key that calls itself as another one is called bears that name with " (no key)". Refusals are
// logged once a minute for each reason, with their count. Texts are cut to 256 bytes and
// cleaned of what cannot be shown. What a frame allocates is in proportion to its bytes.
package feed

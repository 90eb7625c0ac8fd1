// Package feed carries the connections of many hosts to one map server: a
// Client reports what a collector sees, a Server hands it to a Handler.
// It neither collects nor shows connections, and a server never sends
// commands: nothing but greetings and heartbeats travels back.
//
// # Pairing
//
// The server keeps a certificate and a 128-bit secret. Its Token holds both
// the secret and a pin, the beginning of the SHA-256 of the certificate's
// public key. A client checks the pin inside the TLS handshake, before
// anything made from the secret leaves, and then proves that it knows the
// secret without sending it:
//
//	HMAC-SHA-256(HKDF-SHA-256(secret, salt pin, info role), TLS exporter "connmap")
//
// The roles are "connmap agent" and "connmap server"; the server answers with
// its own proof. A proof is bound to one TLS channel and useless on another.
//
// # Frames
//
// Over TLS 1.3 with ALPN connmap/1 both sides send frames: the length as a
// big-endian uint32, then a CBOR array (RFC 8949) whose first element is the
// type. Before authentication a frame holds at most 64 bytes, then 256 KiB.
//
//	1 proof   [1, proof]                            both, first
//	2 hello   [2, name, backend, limited, wall]     client
//	3 welcome [3, most]                             server: connections it takes
//	4 full    [4, more, [conn, ...]]                client: replaces all; more: goes on
//	5 delta   [5, [[kind, conn], ...], lost]        client
//	6 ping    [6]                                   both, every 10 s
//	7 bye     [7, reason]                           server, before it closes
//
// A conn is [id, proto, direction, local, peer, pid, comm, exe, container,
// uid, tx, rx, rtt, opened]: addresses as 6 or 18 bytes with the port last,
// rtt in microseconds, opened in microseconds of Unix time. Who hears nothing
// for 30 s closes.
package feed

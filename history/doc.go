// Package history stores the connections of all agents in an SQLite file, one
// row for each distinct connection, for months.
// It does not watch, locate or name connections: it keeps what it is given.
//
// # The file
//
// The table detailed_history can be read by any SQLite program at any time,
// also while a DB is open. Its first fifteen columns bear the names of the
// connmapperl program's table:
//
//	id           number of the row
//	timestamp    when the connection was last seen
//	ip, port     the peer
//	local_ip, local_port
//	programname  empty if unknown
//	full_lookup  report on the peer's address, empty if there is none
//	asn          autonomous system number of the peer, NULL if unknown
//	orgname      its holder, empty if unknown
//	lat, lon     where the peer is, in degrees; NULL if unknown
//	x, y         the same in pixels of connmapperl's map of 1000x500, on
//	             which some places have no pixel: they lie outside
//	count        how often the connection was opened
//	agent        the host that reported it
//	direction    "in", "out" or "unknown"
//	protocol     "tcp", "udp" or a number
//	exe          path of the program's file, empty if unknown
//	container    empty outside containers
//	country      ISO 3166-1 alpha-2 code, empty if unknown
//	rule         label of the rule that coloured it
//	opened       when it was first opened
//	last_opened  when it was last opened
//	closed       when it was closed; NULL while it is open
//	tx, rx       bytes sent and received, over all openings
//	tx_before, rx_before  the part of them that older openings had
//
// Times are text in UTC as SQLite's date functions read and write them:
// timestamp as 'YYYY-MM-DD HH:MM:SS', so that
//
//	WHERE timestamp >= datetime('now', '-30 seconds')
//
// finds what is alive, and the others with milliseconds.
//
// Agent, protocol, both addresses and ports and the program together are
// unique. Triggers keep the table places, the sum of count for each lat and
// lon, in step with detailed_history.
//
// The file is written ahead (FILE-wal, FILE-shm), so that readers and the
// writer do not wait for each other. FILE.lock keeps a second writing program
// out. A process that is killed loses nothing that Record has acknowledged; a
// computer that loses power may lose the last seconds, but stays consistent.
package history

// Package sqlite stores a history of connections in an SQLite file, one row for each
// distinct connection, for months.
// It does not watch, locate or name connections: it stores what it is given.
//
//	db, err := sqlite.Open(ctx, "history.sqlite", sqlite.Options{})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	w := db.Writer() // stores in the background
//	w.Add(history.Entry{Agent: "laptop", Protocol: "tcp", Local: local, Peer: peer, Program: "curl", New: true, Opened: now})
//	if err := w.Close(); err != nil { // waits until all is stored
//		return err
//	}
//
//	c, err := sqlite.OpenConsole(ctx, "history.sqlite", sqlite.ConsoleOptions{})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	table, err := c.Ask(ctx, history.Question{SQL: "SELECT ip, programname, count FROM detailed_history"})
//
// A DB is a [history.Store], a Writer a [history.Recorder] and a Console a [history.Console].
//
// # The file
//
// The table detailed_history can be read by any SQLite program at any time,
// also while a DB is open. Its first fifteen columns bear the names of the
// table of connmapperl:
//
//	id           number of the row
//	timestamp    when the connection was last seen
//	ip, port     the peer
//	local_ip, local_port
//	programname  empty if unknown
//	full_lookup  report on the peer's address, of rows of connmapperl; else empty
//	asn          autonomous system of the peer such as AS64496, empty if unknown
//	orgname      its holder, empty if unknown
//	lat, lon     where the peer is, in degrees; NULL if unknown
//	x, y         the same in pixels of connmapperl's map of 1000x500, on
//	             which some places have no pixel: they lie outside
//	count        how often the connection was opened
//	agent        the agent that reported it
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
//	tx_before, rx_before  the part of them from earlier openings
//	key          a hash that distinguishes the rows of one ip and programname
//	precision    of lat and lon: "city", "region", or "country" for a point that stands for a whole
//	             country; empty if unknown, and in rows from before schema 6
//	peer_name    by which name a program asked for the peer, in lower case; NULL if unknown
//	peer_name_source  how that was learnt: "dns", "sni", "quic", "http", or "host" for DNS of another
//	             process of that machine
//
// Times are Unix seconds in UTC: timestamp is an integer, and opened, last_opened and closed
// are real numbers with microseconds. Therefore
//
//	WHERE timestamp > (strftime('%s', 'now') - 30)
//	WHERE timestamp > unixepoch('now', '-30 seconds')
//
// find live connections. See [Console] for comparisons with dates.
//
// Agent, protocol, both addresses and ports and the program together are
// unique. The table places has the sum of count for each lat and lon. Indexes lead from
// timestamp, opened, agent, peer_name, ip with programname, and lat with lon to rows. All other
// conditions read the whole table, which takes a second for about two million rows. The view
// peer_names has each name once, so that
//
//	WHERE peer_name IN (SELECT name FROM peer_names WHERE name LIKE '%.example.com')
//
// reads no other rows.
//
// The other tables:
//
//	losses    how many events an agent could not report; timestamp is the hour in which the
//	          server learnt of it
//	reports   the last report of each run of an agent, so that events reported twice are
//	          recorded once
//	unended   openings that another one of the same row followed, although no end of them was
//	          reported: when it is, it counts once
//	agents    the share of each agent: its rows, about how many bytes they take, and how many
//	          of its rows [DB.Prune] has deleted
//	settings  the limits, the path and the id of the file
//
// A write-ahead log (FILE-wal, FILE-shm) lets readers and the writer work without waiting for
// each other. FILE.lock keeps a second writing program out, and FILE.reserve is space to delete
// rows when the disk is full. A killed process loses nothing that Record has acknowledged. After
// a loss of power the last seconds may be missing, but the file is consistent.
//
// Only a history, or the rest of a damaged one, is ever written, renamed or replaced. A DB
// checks every five seconds, and before the next entries, whether somebody has removed,
// replaced, overwritten or truncated its file, or removed or truncated its log. Recording then
// goes on, in a new file if the old one is not whole. If only the log was removed, nothing is
// lost; if it was truncated or overwritten, what was in it is. A part of a big file that was
// overwritten may be noticed only when it is used.
//
// # Upgrading
//
// Open upgrades a history of connmapperl, and of schema 1 to 3 of this package. It writes a new
// file with all rows beside the old one, and replaces the old one when the new one is complete.
// The old one is kept under another name. A million rows take about 20 seconds of processor
// time, and at most two and a half times the space (BenchmarkMigrate).
//
// Rows keep their numbers, and NULL where connmapperl has it, so that a query finds the same
// rows before and after. Connections count as closed when they were last seen. An invalid
// timestamp becomes 1970, and a text without zone is UTC. Rule, country and
// direction come from Options.Complete.
//
// # Asking
//
// A [Console] answers questions in SQL that cannot change or block anything, with
// additional functions: cidr_match(ip, '10.0.0.0/8'), haversine(lat, lon, lat2,
// lon2) in km, text REGEXP pattern, rule(local_port, port, programname, exe).
// [SavedQueries] returns frequent questions, and [SQL] writes the one for a
// [history.Selection]. [DB.Nearby], [DB.Places] and [DB.Replay] are what a map needs.
package sqlite

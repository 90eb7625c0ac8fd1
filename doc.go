// Package connmap is a library that answers one question: where do my
// computers' network connections go?
// It holds no code itself; its packages do, each usable on its own.
//
// The flow of the data, in one direction only:
//
//	kernel -> conntrack -> feed client ==TLS==> feed server -> monitor -> history (SQLite)
//	          (sockets)    (connmap-agent)                     |
//	                              geoip, asn, rules enrich each connection when it opens
//	                                                           v
//	                                     immutable live.State -> mapview (what to show) -> gui (window) or paint (PNG)
//
// Connections of the map server's own machine go from conntrack to monitor without feed.
// docs/data-path.md follows one connection through all types, goroutines, queues and locks.
//
// The packages to import:
//
//   - conntrack: the network connections of the local host, as a snapshot or as
//     events; conntrack/internal/bpf holds its programs for the Linux kernel,
//     conntrack/internal/names what names peers in their packets, conntrack/internal/traffic
//     the programs that test it
//   - conntrack/feed: agents report to a map server over TLS; conntrack/feed/frame: what
//     they send, and what they keep until it is recorded, without a connection
//   - conntrack/conntracktest: deterministic synthetic connections
//   - geoip: places of addresses; geoip/embedded: a table of countries
//   - asn: networks of addresses and who holds them; asn/embedded: a table
//   - asn/whois: reports of all that tables and files know of an address
//   - rules: labels and colours of connections
//   - hilbert: IPv4 addresses on a Hilbert curve
//   - history: values of a history of connections; history/sqlite: connections recorded in
//     SQLite, asked in SQL, pruned and replayed
//
// The programs: cmd/connmap-agent reports one machine, cmd/connmap-data downloads
// and compiles tables, cmd/ip2asn tells who holds an address, examples/mapserver
// is the map. Examples of what others can build: examples/embed is another daemon that
// reports to the map, examples/prometheus an exporter of metrics, examples/enrich looks up
// lines of addresses.
//
// In the map server, monitor is the core without drawing, live its published state,
// mapview the view model without a window, ui its widgets, typeface and worldmap what it
// measures and projects with, sound its beep, clipboard what it copies, storable the reader
// of connmapperl's simple history and viewtest the scenes of its tests; gui alone imports
// Ebitengine, history/sqlite alone SQLite and conntrack/internal/bpf alone cilium/ebpf.
//
// They share internal/temp for files that are to be whole or not at all, internal/lock
// for those that one process at a time may change, internal/private for those that hold
// secrets, internal/unpack for compressed ones, internal/mmdb for those of MaxMind's form,
// internal/layout for the layouts in which tables are published, and internal/ranges for the
// tables of ranges of addresses under geoip and asn.
// internal/terminal makes texts of others safe to show, internal/numbers writes numbers for
// people, internal/peernames says which names of peers are kept,
// internal/confine takes rights from a process, and internal/program ends programs
// that are asked to. internal/bench compares with other programs, internal/race reports
// whether the race detector is on, and internal/random gives them random numbers that can be
// repeated. None of these imports a package outside internal.
//
// Everything is looked up locally. Nothing is sent anywhere but from an agent
// to the map server it was told to join, and nothing is fetched but by
// connmap-data update.
package connmap

package history

import (
	"net/netip"
	"time"
)

// MaxCounter is where counters of bytes, openings and losses stop: high enough for any
// connection, low enough for the sum over thousands of rows that a lying agent drove there.
const MaxCounter = 1 << 50

// An Entry is what is known of a connection at one moment. Agent, Protocol, Local, Peer and
// Program identify the connection. Text is stored as it is.
//
// The first entry of a connection becomes a [Row]. An entry that is New, with another Opened
// than the last, counts another opening. All others refresh the row, so that an opening may be
// reported twice.
//
// A New entry that is Resumed does not count if the row is still open: nobody knows when the
// connection opened. If it is Closed too, it counts if it opened before the row did, unless by a
// multiple of 10 s, by which wrong clocks are corrected.
type Entry struct {
	Agent     string         // name of the host that reports it
	Protocol  string         // "tcp", "udp" or a number
	Direction string         // "in", "out" or "unknown"
	Local     netip.AddrPort // never an IPv4-mapped IPv6 address
	Peer      netip.AddrPort // never an IPv4-mapped IPv6 address
	Program   string         // empty: unknown
	Exe       string         // path of the program's file, empty: unknown
	Container string         // empty outside containers
	ASN       uint32         // of the peer; zero: unknown
	Org       string         // holder of the ASN, empty: unknown
	Country   string         // ISO 3166-1 alpha-2 code of the peer, empty: unknown
	Lat, Lon  float64        // of the peer in degrees, north and east positive; ignored unless in range
	Located   bool           // Lat and Lon are known
	Precision string         // "city", or "country" if Lat and Lon stand for one; empty: unknown
	Rule      string         // label of its rule
	New       bool           // it has opened; else it was recorded before
	Opened    time.Time      // to the microsecond; distinguishes openings of one connection
	Seen      time.Time      // when this was so; zero: when it opened
	Closed    time.Time      // zero: not known to be closed
	Tx, Rx    uint64         // bytes sent and received since Opened; stored up to 1 PiB
	Resumed   bool           // with New: it may have opened earlier, before its agent looked
}

// A Loss says how many events an agent could not report.
type Loss struct {
	Agent string // name of the host
	Count uint64
	Seen  time.Time // when this became known
}

// A Report acknowledges what an agent has reported in one go: all that it stands for is
// recorded before it. Reports of one run are numbered.
type Report struct {
	Run    [16]byte // of the agent
	Number uint64
	Seen   time.Time // when it came
}

// A Record is what can be recorded: an [Entry], a [Loss] or a [Report].
type Record interface{ record() }

func (Entry) record()  {}
func (Loss) record()   {}
func (Report) record() {}

// A Row is a connection that is stored. Opened is its first opening; Tx and Rx are
// those of all openings.
type Row struct {
	ID    int64
	Count int64 // of openings
	Entry
	LastOpened time.Time
}

// A Retention says how much of the past is kept. By age, what was seen longest ago goes
// first. By rows and bytes each agent has a share: rows go from the one that has most, and
// of its rows those that were seen longest ago, so that no agent can make those of others go
// before it has as few. Zero limits nothing, and so does the zero Retention.
type Retention struct {
	Age      time.Duration // since a connection was last seen
	Rows     int64
	Bytes    int64 // of the file
	Disabled bool  // nothing goes, whatever the limits
}

// Stats are what there is, and how much of it is to be kept.
type Stats struct {
	Rows      int64
	Bytes     int64     // of the file, with what is free in it
	Oldest    time.Time // when the oldest row was last seen; zero: there is none
	Retention Retention
}

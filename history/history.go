package history

import (
	"net/netip"
	"time"
)

// MaxCounter is the maximum of counters of bytes, openings and losses. It is high enough for
// any connection, and low enough that sums over thousands of such rows do not overflow.
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
//
// If a Resumed entry has no open row of its Program, it belongs to that of another one, which has
// executed Program since it opened the connection. The row keeps the name of the first.
type Entry struct {
	Agent     string         // name of the agent that reports it
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
	// PeerName is by which name a program of the agent's machine asked for Peer, and PeerNameSource how
	// that was learnt: "dns", "sni", "quic", "http" or "host". Both are empty if it is unknown; the row
	// keeps the name that it has then.
	PeerName, PeerNameSource string
	New                      bool      // it has opened; false: it was recorded before
	Opened                   time.Time // to the microsecond; distinguishes openings of one connection
	Seen                     time.Time // the moment of this entry; zero: when it opened
	Closed                   time.Time // zero: not known to be closed
	Tx, Rx                   uint64    // bytes sent and received since Opened; stored up to 1 PiB
	Resumed                  bool      // in all its entries: it may have opened before its agent started to look
}

// A Loss says how many events an agent could not report.
type Loss struct {
	Agent string // its name
	Count uint64
	Seen  time.Time // when the server learnt of it
}

// A Report marks that all events of one message of an agent have been recorded: they come
// before it. The Reports of one run of an agent are numbered.
type Report struct {
	Run    [16]byte // of the agent
	Number uint64
	Seen   time.Time // when it arrived
}

// A Record is an [Entry], a [Loss] or a [Report].
type Record interface{ record() }

func (Entry) record()  {}
func (Loss) record()   {}
func (Report) record() {}

// A Row is a stored connection. Opened is its first opening; Tx and Rx are the sums over all
// openings.
type Row struct {
	ID    int64
	Count int64 // number of openings
	Entry
	LastOpened time.Time
}

// A PeerName is a name of a peer.
type PeerName struct {
	Name     string
	Programs []string  // that asked for it
	Seen     time.Time // when a connection of that name was last seen
}

// A Retention limits how much of the past is kept. Rows older than Age are deleted. If there are
// too many rows or bytes, rows of the agent with the most are deleted, those not seen for longest
// first. So no agent can displace rows of others that have fewer. A zero field has no limit.
type Retention struct {
	Age      time.Duration // since a connection was last seen
	Names    time.Duration // likewise: names of peers are deleted, and the rest of their rows stays
	Rows     int64
	Bytes    int64 // of the file
	Disabled bool  // nothing is deleted, whatever the limits
}

// Stats are the size of a history and its Retention.
type Stats struct {
	Rows      int64
	Bytes     int64     // of the file, with its free space
	Oldest    time.Time // when the oldest row was last seen; zero: there is none
	Retention Retention
}

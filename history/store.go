package history

import (
	"context"
	"iter"
	"net/netip"
	"time"
)

// A Recorder queues records and stores them in the background. It is safe for concurrent
// use, and its methods never wait for the store.
type Recorder interface {
	// Add queues a record. It is dropped, and counted as lost where that matters, if there
	// is no room.
	Add(Record)
	// AddAll queues records that are stored together or not at all, and calls done, which
	// must not block, when they and all before them are stored. If there is no room for all,
	// all are dropped.
	AddAll(records []Record, done func())
	// Room returns how many records can be added now without being dropped, and how many
	// could be if the queue were empty.
	Room() (free, size int)
	// Failing reports whether nothing can be stored at the moment.
	Failing() bool
	// Problem says, for people, why nothing can be stored at the moment, or that records
	// were dropped lately; nil: all is well.
	Problem() error
}

// A Finder finds stored connections. Its sequences end after an error.
type Finder interface {
	// Nearby yields connections with peers at most km kilometres from a place, the newest
	// first, but not more than limit.
	Nearby(ctx context.Context, lat, lon, km float64, limit int) iter.Seq2[Row, error]
	// Within yields connections with peers in an IPv4 prefix of 8, 16, 24 or 32 bits, the
	// newest first, but not more than limit.
	Within(ctx context.Context, p netip.Prefix, limit int) iter.Seq2[Row, error]
	// Newest yields all connections, those that were last seen most recently first.
	Newest(ctx context.Context) iter.Seq2[Row, error]
	// PeerNames returns by which names programs have asked for an address, the last one first,
	// but not more than limit.
	PeerNames(ctx context.Context, peer netip.Addr, limit int) ([]PeerName, error)
	// First returns when a program's connections to an address were first opened, and how
	// often they were; zero: never.
	First(ctx context.Context, peer netip.Addr, program string) (opened time.Time, count int64, err error)
}

// A Replayer yields connections in the order in which they opened.
type Replayer interface {
	// Span returns when the first and the last connection opened; zero: there are none.
	Span(ctx context.Context) (first, last time.Time, err error)
	// Replay yields connections that opened at from or later, but before to.
	Replay(ctx context.Context, from, to time.Time) iter.Seq2[Row, error]
}

// A Keeper limits how much of the past is kept.
type Keeper interface {
	Stats() (Stats, error)
	// SetRetention sets what Prune is to do, also for later processes.
	SetRetention(Retention) error
	// Prune deletes what exceeds the retention, and returns the number of deleted rows.
	Prune(context.Context) (deleted int64, err error)
	// Reset deletes everything but the retention.
	Reset(context.Context) error
}

// A Store is a history of connections that can be queried while a Recorder records into it.
// It is safe for concurrent use.
type Store interface {
	Finder
	Replayer
	Keeper
	// Places yields the distinct places of all connections.
	Places(context.Context) iter.Seq2[Mark, error]
	// Addrs yields the distinct IPv4 addresses of all peers.
	Addrs(context.Context) iter.Seq2[netip.Addr, error]
	// LastReport returns the number of the last stored Report of an agent's run; zero: none.
	LastReport(ctx context.Context, run [16]byte) (number uint64, err error)
	// Problem says, for people, what happened to the stored data and what to do; empty:
	// nothing.
	Problem() string
}

// A Console answers questions in the language of its store, and changes nothing. It is safe for
// concurrent use.
type Console interface {
	// Ask returns the answer to a question. Its error is a *QueryError if the question is wrong
	// or too expensive.
	Ask(context.Context, Question) (*Table, error)
	// Each calls begin with the columns of an answer and row with each row, which it may keep,
	// until one of them fails. It returns why there are no more rows, if these are not all.
	Each(ctx context.Context, q Question, begin func([]Column) error, row func([]any) error) (cut string, err error)
	Close() error
}

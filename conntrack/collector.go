package conntrack

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// A Backend is a way to read sockets.
type Backend string

// The backends, the best of each system first.
const (
	Auto     Backend = ""         // the best that works here
	EBPF     Backend = "ebpf"     // programs in the Linux kernel that report each connection as it opens and closes
	Diag     Backend = "diag"     // Linux sock_diag over netlink, polled
	Proc     Backend = "proc"     // the tables in Linux's /proc/net, polled
	IPHelper Backend = "iphelper" // Windows' table of TCP sockets from iphlpapi.dll, polled; experimental
	PCBList  Backend = "pcblist"  // macOS' lists of protocol control blocks from sysctl, polled; experimental
)

// Options say how to collect. The zero Options work.
type Options struct {
	Backend  Backend       // zero: Auto
	Interval time.Duration // between the polls of Events, and between its updates of counters; zero: one second
	Loopback bool          // also report connections to loopback addresses
	Logger   *slog.Logger  // for what goes wrong and is tried again; nil: discard
}

// An Info says how a [Collector] works and what it cannot see.
type Info struct {
	Backend Backend // in use, never Auto
	Limited string  // what it does not see and why there is no better backend, for people; empty: it sees all
	// Connections since New that were never reported, and flows that were not followed, of
	// one socket once in an interval; zero for backends that poll, which cannot know.
	Lost uint64
	// Other events since New that were dropped for want of room: they are reported late.
	Late uint64
}

// A Collector reports the connections of the local host. It comes from New
// and is safe for concurrent use.
type Collector struct {
	interval time.Duration
	backend  backend
}

// A backend reads sockets in one way. It is safe for concurrent use.
type backend interface {
	// snapshot appends the current connections to dst.
	snapshot(ctx context.Context, dst []Conn) ([]Conn, error)
	// events yields what changes until ctx ends or yield returns false.
	events(ctx context.Context, interval time.Duration, yield func(Event) bool) error
	info() Info
	close() error
}

// New returns a Collector. It needs no privileges, but sees less without: see
// [Info]. Backends that poll see the network namespace of the calling thread.
// The error wraps [errors.ErrUnsupported] where there is no backend, which is
// everywhere but on Linux, Windows and macOS, or if the backend asked for is another
// system's or needs what this kernel has not, and [io/fs.ErrPermission] if it needs a
// capability.
func New(o Options) (*Collector, error) {
	switch o.Backend {
	case Auto, EBPF, Diag, Proc, IPHelper, PCBList:
	default:
		return nil, fmt.Errorf("conntrack: there is no backend %q: use %s, %s or %s on Linux, %s on Windows, %s on macOS, or none for the best", o.Backend, EBPF, Diag, Proc, IPHelper, PCBList)
	}
	if o.Interval < 0 {
		return nil, fmt.Errorf("conntrack: the interval %v is negative", o.Interval)
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return &Collector{o.Interval, b}, nil
}

// Info returns what is known now: Limited may say more later, when the Collector
// has met a process that it may not look at.
func (c *Collector) Info() Info { return c.backend.info() }

// Snapshot reports the current connections, in no particular order. On error
// it is empty: there are no partial snapshots. After Close the error wraps
// [os.ErrClosed]. Counters are those of now, unless the backend is EBPF and a
// consumer of Events is far behind: they stand still until it has caught up.
func (c *Collector) Snapshot(ctx context.Context) ([]Conn, error) {
	conns, err := c.backend.snapshot(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return conns, nil
}

// Events reports the changes of connections until ctx ends: first an Open for
// each connection present, then what changes. Counters are told once in an
// interval. A consumer that does not keep up makes the backend EBPF lose events,
// for all consumers, and others poll less often. The sequence ends
// without an error when ctx ends, with EBPF after what happened until then, and after the
// first error otherwise. Each
// range over it starts anew.
func (c *Collector) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.backend.events(ctx, c.interval, func(e Event) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, fmt.Errorf("conntrack: %w", err))
		}
	}
}

// Close ends the Collector. Running Events end with an error, unless their
// context has ended before. The error of a second Close wraps [os.ErrClosed].
func (c *Collector) Close() error { return c.backend.close() }

package conntrack

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// A Backend names a way to read sockets.
type Backend string

// The backends. Auto tries those of the system from the best to the worst.
const (
	Auto     Backend = ""         // the best one that works here
	EBPF     Backend = "ebpf"     // programs in the Linux kernel that report each connection as it opens and closes
	Diag     Backend = "diag"     // Linux sock_diag over netlink, polled
	Proc     Backend = "proc"     // the tables in Linux's /proc/net, polled
	IPHelper Backend = "iphelper" // Windows' table of TCP sockets from iphlpapi.dll, polled; experimental
	PCBList  Backend = "pcblist"  // macOS' lists of protocol control blocks from sysctl, polled; experimental
)

// Options configure a Collector. The zero Options work.
type Options struct {
	Backend  Backend       // zero: Auto
	Interval time.Duration // between polls, and between Update events of one connection; zero: one second
	Loopback bool          // also report connections to loopback addresses
	// Names has EBPF learn the names by which programs ask for peers, from questions and answers
	// of DNS and from the beginnings of TLS, QUIC and HTTP. Nothing is asked of the network. Without
	// it no payload leaves the kernel.
	Names  bool
	Logger *slog.Logger // for errors after which the Collector tries again; nil: discard
}

// An Info says how a [Collector] works and what it cannot see.
type Info struct {
	Backend Backend // in use, never Auto
	Limited string  // for people: what it does not see, and why no better backend works; empty: it sees all
	// Lost counts connections since New that were never reported. A socket with too many new
	// flows counts once an interval. Backends that poll cannot count: theirs is zero.
	Lost uint64
	// Late counts other events since New that found the queue full and were reported late.
	Late uint64
	// Unnamed counts what was forgotten of names since New: those that gave way to others, and
	// packets with one that found the queue full.
	Unnamed uint64
}

// A Collector reports the connections of the local host. It comes from New
// and is safe for concurrent use.
type Collector struct {
	interval time.Duration
	backend  backend
}

// A backend reads sockets in one way. All its methods are safe for concurrent use.
type backend interface {
	// snapshot appends the current connections to dst.
	snapshot(ctx context.Context, dst []Conn) ([]Conn, error)
	// events yields changes until ctx ends or yield returns false.
	events(ctx context.Context, interval time.Duration, yield func(Event) bool) error
	info() Info
	close() error
}

// New returns a Collector. It needs no privileges, but sees less without them: see [Info].
// Backends that poll see the network namespace of the calling thread.
//
// The error wraps [errors.ErrUnsupported] if the system or its kernel has no such backend,
// and [io/fs.ErrPermission] if the backend needs a capability. There are backends for Linux,
// Windows and macOS.
func New(o Options) (*Collector, error) {
	switch o.Backend {
	case Auto, EBPF, Diag, Proc, IPHelper, PCBList:
	default:
		return nil, fmt.Errorf("conntrack: unknown backend %q: use %s, %s or %s on Linux, %s on Windows, %s on macOS, or leave it empty for the best one", o.Backend, EBPF, Diag, Proc, IPHelper, PCBList)
	}
	if o.Interval < 0 {
		return nil, fmt.Errorf("conntrack: the interval %v is negative: use a positive one, or zero for one second", o.Interval)
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

// Info returns what is known now. Limited may say more later: when the Collector meets a
// process that it is not allowed to inspect.
func (c *Collector) Info() Info { return c.backend.info() }

// Snapshot returns the present connections, in no particular order. On error it returns none:
// there are no partial snapshots. After Close the error wraps [os.ErrClosed]. Counters are
// current, with one exception: with EBPF they stand still while a consumer of Events is far
// behind.
func (c *Collector) Snapshot(ctx context.Context) ([]Conn, error) {
	conns, err := c.backend.snapshot(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return conns, nil
}

// Events yields changes of connections until ctx ends. First comes an Open event for each
// present connection. Update events come once an interval. A slow consumer makes EBPF drop
// events, for all consumers; other backends then poll less often.
//
// The sequence ends without an error when ctx ends, with EBPF after the events from before.
// It ends after the first error otherwise. Each range over it starts anew.
func (c *Collector) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.backend.events(ctx, c.interval, func(e Event) bool { return yield(e, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, fmt.Errorf("conntrack: %w", err))
		}
	}
}

// Close ends the Collector. Running Events then end with an error, unless their context has
// ended first. The error of a second Close wraps [os.ErrClosed].
func (c *Collector) Close() error { return c.backend.close() }

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/confine"
)

// This file is the collector in a process of its own. It needs rights that the map server
// does not need, which reads what strangers send: so each has only its own.

// collectWord is the first argument of that process.
const collectWord = "collect"

const (
	collectorFile = 3       // the file descriptor of its end of the link
	largestTold   = 1 << 20 // bytes of a message
	tellDelay     = 10 * time.Millisecond
	lookAgain     = 2 * time.Second // after which a collector knows what it does not see
)

// A told is a message of the collector: one of its members. On the link each has its length
// before it, in four bytes, and is in CBOR (RFC 8949).
type told struct {
	Info   *conntrack.Info
	Event  *conntrack.Event
	Failed string
}

// Times keep their nanoseconds, and paths their bytes, which need not be characters.
var (
	encoding, _ = cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	decoding, _ = cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
)

var errTold = errors.New("the collector's process sends what cannot be read")

// readTold reads a message.
func readTold(r io.Reader) (t told, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return t, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > largestTold {
		return t, errTold
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return t, err // also where a process that was killed has written half of a message
	}
	if err := decoding.Unmarshal(b, &t); err != nil {
		return told{}, errTold
	}
	return t, nil
}

// A teller writes messages, many at a time when many come.
type teller struct {
	mu  sync.Mutex
	w   *bufio.Writer
	err error
}

func (l *teller) tell(t told) error {
	b, err := encoding.Marshal(t)
	if err == nil && len(b) > largestTold && t.Event != nil {
		e := *t.Event
		e.Conn.Sharers = nil
		b, err = encoding.Marshal(told{Event: &e})
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if l.w.Buffered() == 0 {
		time.AfterFunc(tellDelay, func() { l.flush() })
	}
	_, err = l.w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	l.err = errors.Join(l.err, err)
	return l.err
}

func (l *teller) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, l.w.Flush())
	return l.err
}

// collect tells what a collector sees until the map server goes away.
func collect(ctx context.Context, args []string, stderr io.Writer) error {
	link := os.NewFile(collectorFile, "link to the map server")
	defer link.Close()
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() {
		link.Read(make([]byte, 1)) // it sends nothing
		gone()
		link.Close()
	}()
	l := &teller{w: bufio.NewWriterSize(link, 32<<10)}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	c, err := conntrack.New(conntrack.Options{Loopback: len(args) > 0 && args[0] == "-loopback", Logger: log})
	if err != nil {
		l.tell(told{Failed: err.Error()})
		return l.flush()
	}
	defer c.Close()
	confine.Process(confine.Keep{Capabilities: confine.Following | confine.Polling})
	tellInfo := func() {
		info := c.Info()
		l.tell(told{Info: &info})
	}
	tellInfo()
	later := time.AfterFunc(lookAgain, tellInfo)
	defer later.Stop()
	for e, err := range c.Events(ctx) {
		if err != nil {
			l.tell(told{Failed: err.Error()})
			break
		}
		if l.tell(told{Event: &e}) != nil {
			break
		}
	}
	l.flush()
	return nil
}

// A remote is a collector in another process.
type remote struct {
	link *os.File
	pid  int
	r    *bufio.Reader

	mu   sync.Mutex
	info conntrack.Info
}

// confinedWithout says in what this process, which was started as root, is not confined.
var confinedWithout string

// inherited is the collector that this process was started with, nil if with none.
var inherited *remote

// begin waits until the collector works.
func (c *remote) begin(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.link.Close() })()
	c.r = bufio.NewReaderSize(c.link, 64<<10)
	t, err := readTold(c.r)
	switch {
	case err != nil:
		return c.over(err)
	case t.Failed != "":
		c.over(nil)
		return errors.New(t.Failed)
	case t.Info == nil:
		return c.over(errTold)
	}
	c.info = *t.Info
	return nil
}

// Info says how the collector reads sockets, as it was last told.
func (c *remote) Info() conntrack.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Events yields what the collector tells, once, until ctx ends.
func (c *remote) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		defer context.AfterFunc(ctx, func() { c.link.Close() })()
		for {
			t, err := readTold(c.r)
			switch {
			case ctx.Err() != nil:
				c.over(nil)
				return
			case err == nil && t.Event != nil:
				if !yield(*t.Event, nil) {
					c.over(nil)
					return
				}
				continue
			case err == nil && t.Info != nil:
				c.mu.Lock()
				c.info = *t.Info
				c.mu.Unlock()
				continue
			case err == nil && t.Failed != "":
				err = errors.New(t.Failed)
			case err == nil:
				err = errTold
			}
			yield(conntrack.Event{}, c.over(err))
			return
		}
	}
}

// over ends the collector, and waits for it.
func (c *remote) over(err error) error {
	c.link.Close()
	state := "cannot be waited for"
	if p, bad := os.FindProcess(c.pid); bad == nil {
		if s, bad := p.Wait(); bad == nil {
			state = s.String()
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the collector's process has ended (%s)", state)
	}
	return err
}

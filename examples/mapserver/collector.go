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
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/internal/confine"
)

// This file runs the collector in a process of its own. The collector needs root's rights;
// the map server reads data of strangers and needs none. So each has only what it needs.

// collectCommand is the first argument of that process.
const collectCommand = "collect"

const (
	collectorFD = 3       // file descriptor of the collector's end of the link
	maxMessage  = 1 << 20 // bytes of a message
	flushDelay  = 10 * time.Millisecond
	infoDelay   = 2 * time.Second // after which a collector knows its limits
)

// A message is what the collector sends: one of its fields is set. On the link it is encoded
// in CBOR (RFC 8949), after its length in four bytes.
type message struct {
	Info   *conntrack.Info
	Event  *conntrack.Event
	Failed string
}

// Times keep their nanoseconds, and paths their bytes, which need not be UTF-8.
var (
	encoding, _ = cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	decoding, _ = cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
)

var errMessage = errors.New("the collector's process sent a damaged message")

// readMessage reads a message.
func readMessage(r io.Reader) (t message, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return t, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return t, errMessage
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return t, err // also where a process that was killed has written half of a message
	}
	if err := decoding.Unmarshal(b, &t); err != nil {
		return message{}, errMessage
	}
	return t, nil
}

// A messageWriter sends messages in batches.
type messageWriter struct {
	mu  sync.Mutex
	w   *bufio.Writer
	err error
}

func (l *messageWriter) send(t message) error {
	b, err := encoding.Marshal(t)
	if err == nil && len(b) > maxMessage && t.Event != nil {
		e := *t.Event
		e.Conn.Sharers = nil
		b, err = encoding.Marshal(message{Event: &e})
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
		time.AfterFunc(flushDelay, func() { l.flush() })
	}
	_, err = l.w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	l.err = errors.Join(l.err, err)
	return l.err
}

func (l *messageWriter) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, l.w.Flush())
	return l.err
}

// collect sends the events of a collector until the map server closes the link.
func collect(ctx context.Context, args []string, stderr io.Writer) error {
	link := os.NewFile(collectorFD, "link to the map server")
	defer link.Close()
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() {
		link.Read(make([]byte, 1)) // returns when the server has closed it: it sends nothing
		gone()
		link.Close()
	}()
	l := &messageWriter{w: bufio.NewWriterSize(link, 32<<10)}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	c, err := conntrack.New(conntrack.Options{Loopback: slices.Contains(args, "-loopback"), Names: slices.Contains(args, "-names"), Logger: log})
	if err != nil {
		l.send(message{Failed: err.Error()})
		return l.flush()
	}
	defer c.Close()
	confine.Process(confine.Keep{Capabilities: confine.Following | confine.Polling})
	sendInfo := func() {
		info := c.Info()
		l.send(message{Info: &info})
	}
	sendInfo()
	later := time.AfterFunc(infoDelay, sendInfo)
	defer later.Stop()
	for e, err := range c.Events(ctx) {
		if err != nil {
			l.send(message{Failed: err.Error()})
			break
		}
		if l.send(message{Event: &e}) != nil {
			break
		}
	}
	l.flush()
	return nil
}

// A remote is the server's end of a collector in another process.
type remote struct {
	link *os.File
	pid  int
	r    *bufio.Reader

	mu   sync.Mutex
	info conntrack.Info
}

// notConfined says why this process, started as root, has more rights than it needs.
var notConfined string

// inheritedCollector is the collector that was running when this process was started; nil: none.
var inheritedCollector *remote

// start waits until the collector works.
func (c *remote) start(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.link.Close() })()
	c.r = bufio.NewReaderSize(c.link, 64<<10)
	t, err := readMessage(c.r)
	switch {
	case err != nil:
		return c.stop(err)
	case t.Failed != "":
		c.stop(nil)
		return errors.New(t.Failed)
	case t.Info == nil:
		return c.stop(errMessage)
	}
	c.info = *t.Info
	return nil
}

// Info returns what the collector said last about how it reads sockets.
func (c *remote) Info() conntrack.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Events yields what the collector sends until ctx ends. It can be called once.
func (c *remote) Events(ctx context.Context) iter.Seq2[conntrack.Event, error] {
	return func(yield func(conntrack.Event, error) bool) {
		defer context.AfterFunc(ctx, func() { c.link.Close() })()
		for {
			t, err := readMessage(c.r)
			switch {
			case ctx.Err() != nil:
				c.stop(nil)
				return
			case err == nil && t.Event != nil:
				if !yield(*t.Event, nil) {
					c.stop(nil)
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
				err = errMessage
			}
			yield(conntrack.Event{}, c.stop(err))
			return
		}
	}
}

// stop ends the collector and waits for its process. It returns err, or the exit state if err is io.EOF.
func (c *remote) stop(err error) error {
	c.link.Close()
	state := "exit status unknown"
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

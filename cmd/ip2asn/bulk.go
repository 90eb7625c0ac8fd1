package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/connmapgo/connmap/asn/whois"
)

// A batch is a number of lines that were read together, and their answers.
type batch struct {
	lines  []byte
	before int // lines before this batch
	out    bytes.Buffer
	errs   bytes.Buffer
	wrong  int
	done   chan struct{} // closed when the other fields are final
}

// batches keeps used batches for their buffers.
var batches = sync.Pool{New: func() any { return new(batch) }}

// batchSize is the size of a read, and longer than any valid line.
const batchSize = 64 << 10

// bulk answers the lines of stdin in their order, on all processors. It reports invalid lines on
// stderr and goes on.
func bulk(ctx context.Context, sources *whois.Sources, asJSON bool, stdin io.Reader, stdout, stderr io.Writer) error {
	queue := make(chan *batch, 2*runtime.GOMAXPROCS(0))
	var readErr error // valid when queue is closed
	// After an interrupt nobody waits for it: a read from a terminal cannot be ended.
	go func() {
		defer close(queue)
		readErr = read(stdin, func(b *batch) bool {
			select {
			case queue <- b:
				go b.answer(sources, asJSON)
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	wrong := 0
	for {
		var b *batch
		select {
		case b = <-queue:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b == nil {
			break
		}
		<-b.done
		if _, err := stdout.Write(b.out.Bytes()); err != nil {
			return err
		}
		stderr.Write(b.errs.Bytes())
		wrong += b.wrong
		batches.Put(b)
	}
	if err := errors.Join(ctx.Err(), readErr); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d lines had no answer, or an incomplete one", wrong)
	}
	return nil
}

// read passes on the complete lines of stdin as soon as they arrive.
func read(stdin io.Reader, pass func(*batch) bool) error {
	buf := make([]byte, 0, batchSize)
	before := 0
	for {
		n, err := stdin.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := bytes.LastIndexByte(buf, '\n') + 1
		if err != nil {
			end = len(buf)
		}
		if end > 0 {
			b := batches.Get().(*batch)
			b.lines = append(b.lines[:0], buf[:end]...)
			b.before, b.wrong, b.done = before, 0, make(chan struct{})
			b.out.Reset()
			b.errs.Reset()
			before += bytes.Count(b.lines, []byte("\n"))
			if !pass(b) {
				return nil
			}
			buf = append(buf[:0], buf[end:]...)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case len(buf) == cap(buf):
			// No address is that long: the first bytes are enough for an error.
			buf = buf[:1000]
		}
	}
}

func (b *batch) answer(sources *whois.Sources, asJSON bool) {
	defer close(b.done)
	n := b.before
	for line := range bytes.Lines(b.lines) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		r, err := sources.Ask(string(line))
		if err != nil {
			b.wrong++
			fmt.Fprintf(&b.errs, "ip2asn: line %d: %s\n", n, plain(err))
			if r.IsZero() {
				continue
			}
		}
		if asJSON {
			writeJSON(&b.out, r)
		} else {
			r.WriteLine(&b.out)
		}
	}
}

// plain returns the text of an error without the name of its package.
func plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "whois: "), "asn: ")
}

func writeJSON(w io.Writer, r whois.Report) error {
	b, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

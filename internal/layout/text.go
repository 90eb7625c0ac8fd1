package layout

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/ranges"
)

const (
	blockSize = 512 << 10 // bytes of lines that one worker parses at a time
	maxLine   = 1 << 20   // bytes; a longer line is no row
)

// A block is whole lines of a file, and what a worker makes of them.
type block struct {
	buf   []byte
	lines []byte // of buf
	line  int    // number of the first
	last  bool   // the file ends with it
	done  chan struct{}

	worker  *worker
	fresh   []Facts // what the worker's numbers from the first new one on say
	rows4   []ranges.Row[ranges.V4]
	rows6   []ranges.Row[ranges.V6]
	order   []bool // of rows: whether each is of IPv6
	good    int64
	skipped int64
	bad     error // the first, with its line
	cut     bool  // the last line is bad and has no end
	endless bool  // the last line is good and has no end
	inside  int64 // networks that are written as an address inside
	date    time.Time
}

// manyRows are not written by hand: a program wrote them, and ends each line.
const manyRows = 1000

// free are blocks that can be used again.
var free = sync.Pool{New: func() any { return &block{buf: make([]byte, 0, blockSize)} }}

// newBlock returns an empty block whose buffer begins with rest.
func newBlock(rest []byte) *block {
	b := free.Get().(*block)
	*b = block{buf: append(b.buf[:0], rest...), fresh: b.fresh[:0], rows4: b.rows4[:0], rows6: b.rows6[:0], order: b.order[:0], done: make(chan struct{})}
	return b
}

// readText passes on the rows of a table of lines. Workers parse blocks of lines, and rows
// are passed on in the order of the file.
func readText(f *ranges.File, t *text, sink Sink) (Report, error) {
	report := Report{Kind: t.kind, Remarks: t.remarks}
	if t.has(id) {
		if err := t.locate(f, &report); err != nil {
			return report, err
		}
	}
	expect(f, sink)
	n := runtime.GOMAXPROCS(0)
	work := make(chan *block, n)
	queue := make(chan *block, 2*n) // in the order of the file
	stop := make(chan struct{})
	var readErr error
	var all sync.WaitGroup
	defer all.Wait()
	defer close(stop)
	all.Go(func() {
		defer close(queue)
		defer close(work)
		readErr = blocks(f, func(b *block) bool {
			for _, to := range []chan *block{queue, work} {
				select {
				case to <- b:
				case <-stop:
					return false
				}
			}
			return true
		})
	})
	for range n {
		all.Go(func() {
			w := &worker{text: t}
			for b := range work {
				w.parse(b)
			}
		})
	}
	ids := make(map[*worker][]uint32) // of each worker's numbers
	var bad error
	inside := int64(0)
	for b := range queue {
		<-b.done
		known := ids[b.worker]
		for _, facts := range b.fresh {
			id, err := sink.ID(facts)
			if err != nil {
				return report, fmt.Errorf("line %d or after: %w", b.line, err)
			}
			known = append(known, id)
		}
		ids[b.worker] = known
		if err := b.pass(sink, known, t.kind.Name == Geofeed); err != nil {
			return report, fmt.Errorf("line %d or after: %w", b.line, err)
		}
		report.Rows += b.good
		report.Skipped += b.skipped
		inside += b.inside
		if bad == nil {
			bad = b.bad
		}
		if !b.date.IsZero() {
			report.Date = b.date
		}
		if b.cut {
			report.Truncated = true
			report.Remarks = append(report.Remarks, "it is truncated in its last line")
		}
		if b.endless && report.Rows >= manyRows {
			report.Remarks = append(report.Remarks, "it may be truncated: its last line has no end")
		}
		clear(b.fresh) // of its texts
		free.Put(b)
	}
	if readErr != nil {
		return report, readErr
	}
	report.unaligned(int(inside))
	if n := t.unnamed.Load(); n > 0 {
		report.Remarks = append(report.Remarks, numbers.Count(int(n), "place has", "places have")+" no name in the file of locations: take that of the same release")
	}
	return report.finish(bad)
}

// pass passes the rows of a block on. In a geofeed the holder of addresses says also of which
// nobody knows where they are (RFC 8805, section 2.1.2); in other tables such rows are left out.
func (b *block) pass(sink Sink, ids []uint32, geofeed bool) error {
	i4, i6 := 0, 0
	for _, six := range b.order {
		var err error
		if six {
			r := b.rows6[i6]
			if i6++; ids[r.ID] != 0 || geofeed {
				err = sink.Add6(r.First, r.Last, ids[r.ID])
			}
		} else {
			r := b.rows4[i4]
			if i4++; ids[r.ID] != 0 || geofeed {
				err = sink.Add4(r.First, r.Last, ids[r.ID])
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expect makes room for the rows of a text: to grow again and again costs more than to read.
// Where the text is compressed it is too little.
func expect(f *ranges.File, sink Sink) {
	head, _ := f.Peek(sample)
	if n := int64(bytes.Count(head, []byte("\n"))); n > 0 && int64(len(head)) < min(f.Size, Max) {
		sink.Reserve4(int(min(min(f.Size, Max)*n/int64(len(head)), ranges.Max)))
	}
}

// blocks cuts what f has into blocks of whole lines and hands them on until that says no.
func blocks(f io.Reader, pass func(*block) bool) error {
	b := newBlock(nil)
	line := 1
	long := false // what comes next is the rest of a line that is too long
	if head, ok := f.(interface{ Peek(int) ([]byte, error) }); ok {
		if begin, _ := head.Peek(len(mark)); bytes.Equal(begin, mark) {
			io.CopyN(io.Discard, f, int64(len(mark)))
		}
	}
	for {
		n, err := io.ReadFull(f, b.buf[len(b.buf):cap(b.buf)])
		b.buf = b.buf[:len(b.buf)+n]
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if long {
			i := bytes.IndexByte(b.buf, '\n')
			if i < 0 {
				i = len(b.buf) - 1
			} else {
				long = false
				line++
			}
			b.buf = b.buf[:copy(b.buf, b.buf[i+1:])]
		}
		buf := b.buf
		if err != nil && !ended {
			// All before is of no use, but says where.
			return fmt.Errorf("line %d or after: the file is damaged or truncated: %w", line+bytes.Count(buf, []byte("\n")), err)
		}
		end := bytes.LastIndexByte(buf, '\n') + 1
		if ended {
			end = len(buf)
		} else if end == 0 {
			if len(buf) < cap(buf) {
				continue
			}
			if cap(buf) <= maxLine {
				b.buf = append(make([]byte, 0, 2*cap(buf)), buf...)
				continue
			}
			end, long = len(buf), true // the beginning of the line is a bad row
		}
		next := newBlock(buf[end:])
		b.lines, b.line, b.last = buf[:end], line, ended
		line += bytes.Count(b.lines, []byte("\n"))
		if len(b.lines) > 0 && !pass(b) || ended {
			return nil
		}
		b = next
	}
}

// A worker parses blocks. Rows of one place say the same behind the addresses: so many and
// short ones of those texts are remembered that no file fills the memory with them.
type worker struct {
	*text
	known  memo   // numbers of texts
	n      uint32 // numbers given
	fields [][]byte
}

const maxKnown, maxRest = 1 << 20, 512

// parse makes rows of the lines of a block.
func (w *worker) parse(b *block) {
	defer close(b.done)
	b.worker = w
	n := b.line - 1
	for rest := b.lines; len(rest) > 0; {
		line := rest
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			rest = nil
		} else {
			line, rest = rest[:end], rest[end+1:]
		}
		n++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 || w.header != "" && string(line) == w.header {
			continue
		}
		// Between semicolons a line that begins with one has an empty first column.
		if isComment(line) && line[0] != w.sep {
			if at, ok := bytes.CutPrefix(bytes.TrimSpace(line[1:]), []byte("Generated:")); ok {
				b.date, _ = time.Parse(time.RFC1123, string(bytes.TrimSpace(at)))
			}
			continue
		}
		if err := w.row(b, line); err != nil {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if b.last && end < 0 {
				b.cut = true
			}
			if b.skipped++; b.bad == nil {
				b.bad = fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		b.good++
		b.endless = end < 0
	}
}

// row adds the row of a line.
func (w *worker) row(b *block, line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("the line has more than %d bytes", maxLine)
	}
	addresses, rest := w.cut(line)
	number, known := uint32(0), false
	if addresses != nil {
		number, known = w.known.get(rest)
	}
	if !known {
		w.fields = appendFields(w.fields[:0], line, w.sep)
		if len(w.fields) < w.least || len(w.fields) > w.count && (w.sep != '\t' || w.at[org] != w.count-1) {
			return fmt.Errorf("%d columns, expected %d", len(w.fields), w.count)
		}
		facts, err := w.facts(w.fields)
		if err != nil {
			return err
		}
		if addresses == nil {
			return w.general(b, facts)
		}
		number = w.give(b, facts)
		if w.known.n < maxKnown && len(rest) <= maxRest {
			w.known.set(rest, number)
		}
	}
	if w.has(network) {
		return w.network(b, addresses, nil, number)
	}
	one, two, _ := bytes.Cut(addresses, []byte{w.sep})
	return w.span(b, one, two, number)
}

// general adds a row whose addresses do not stand first in their line.
func (w *worker) general(b *block, facts Facts) error {
	number := w.n
	b.fresh = append(b.fresh, facts)
	w.n++
	if w.has(network) {
		return w.network(b, w.field(w.fields, network), w.field(w.fields, length), number)
	}
	return w.span(b, w.field(w.fields, first), w.field(w.fields, last), number)
}

// give returns a number for what a row says.
func (w *worker) give(b *block, facts Facts) uint32 {
	b.fresh = append(b.fresh, facts)
	w.n++
	return w.n - 1
}

// cut separates the addresses of a line, if they stand first, from what follows.
func (w *worker) cut(line []byte) (addresses, rest []byte) {
	at := bytes.IndexByte(line, w.sep)
	switch {
	case at < 0 || w.has(length):
		return nil, nil
	case w.at[network] == 0:
	case w.at[first] == 0 && w.at[last] == 1:
		next := bytes.IndexByte(line[at+1:], w.sep)
		if next < 0 {
			return nil, nil
		}
		at += 1 + next
	default:
		return nil, nil
	}
	return line[:at], line[at+1:]
}

// clean removes blanks and quotation marks around an address.
func clean(s []byte) []byte {
	if len(s) > 0 && (s[0] <= ' ' || s[0] == '"' || s[len(s)-1] <= ' ' || s[len(s)-1] == '"') {
		return bytes.Trim(s, "\" \t")
	}
	return s
}

// network adds the row of a network.
func (w *worker) network(b *block, s, bits []byte, number uint32) error {
	s = clean(s)
	if bits != nil {
		s = append(append(append([]byte(nil), s...), '/'), bytes.TrimPrefix(bits, []byte("/"))...)
	}
	p, ok := parseNetwork(s)
	if !ok {
		return fmt.Errorf("%.60q is not a network such as 192.0.2.0/24", s)
	}
	if p != p.Masked() {
		b.inside++
	}
	r := ranges.Of(p)
	b.add(addressOf(r.First), addressOf(r.Last), number)
	return nil
}

// span adds the row of a first and a last address.
func (w *worker) span(b *block, one, two []byte, number uint32) error {
	one, two = clean(one), clean(two)
	from, ok := parseAddr(one)
	if !ok {
		return fmt.Errorf("first address %.60q is not an IP address", one)
	}
	to, ok := parseAddr(two)
	if !ok {
		return fmt.Errorf("last address %.60q is not an IP address", two)
	}
	if from.is6 != to.is6 {
		if !w.decimal6 {
			return fmt.Errorf("%.60q and %.60q are of two families", one, two)
		}
		from, to = from.decimal6(), to.decimal6()
	}
	if from.is6 && to.v6.Compare(from.v6) < 0 || !from.is6 && to.v4 < from.v4 {
		return fmt.Errorf("last address %s is before first %s", two, one)
	}
	if w.hosts && !from.is6 {
		from.v4, to.v4 = repair(from.v4, to.v4)
	}
	b.add(from, to, number)
	return nil
}

func (b *block) add(from, to address, number uint32) {
	b.order = append(b.order, from.is6)
	if from.is6 {
		b.rows6 = append(b.rows6, ranges.Row[ranges.V6]{First: from.v6, Last: to.v6, ID: number})
	} else {
		b.rows4 = append(b.rows4, ranges.Row[ranges.V4]{First: from.v4, Last: to.v4, ID: number})
	}
}

// facts returns what the columns of a row say.
func (t *text) facts(f [][]byte) (Facts, error) {
	var facts Facts
	ok := false
	if code := t.field(f, country); code != nil {
		if facts.Country, ok = parseCountry(code); !ok {
			return facts, fmt.Errorf("%.60q is not a country code of two letters", code)
		}
	}
	if y, x := t.field(f, lat), t.field(f, lon); len(y) > 0 && len(x) > 0 {
		if facts.Lat, ok = coordinate(y, 90); !ok {
			return facts, fmt.Errorf("latitude %.60q is not a number from -90 to 90", y)
		}
		if facts.Lon, ok = coordinate(x, 180); !ok {
			return facts, fmt.Errorf("longitude %.60q is not a number from -180 to 180", x)
		}
		// Some tools write 0, 0 for missing coordinates, where nobody lives.
		facts.Point = facts.Lat != 0 || facts.Lon != 0
	}
	if r, _ := coordinate(t.field(f, radius), 21000); r > 0 && facts.Point {
		facts.Radius = uint16(math.Ceil(r))
	}
	facts.City = name(t.field(f, city))
	// Without the names of cities a postal code is no sign that there is none.
	if t.has(city) || t.locations != nil {
		facts.Region = name(t.field(f, region)) != "" || name(t.field(f, postal)) != ""
	}
	if facts.Radius > 0 {
		facts.Exact = facts.Radius <= ExactRadius
	} else {
		facts.Exact = facts.Point && !t.has(city) && !t.has(region) && t.locations == nil
	}
	if facts.AS, ok = parseAS(t.field(f, as)); !ok {
		return facts, fmt.Errorf("%.60q is not an AS number from 0 to 4294967295", t.field(f, as))
	}
	if facts.AS != 0 {
		facts.Org = name(t.holder(f))
	}
	if both := t.field(f, asOrg); len(both) > 0 {
		number, holder, _ := bytes.Cut(both, []byte(" "))
		if facts.AS, ok = parseAS(number); !ok {
			return facts, fmt.Errorf("%.60q does not begin with an AS number such as AS64496", both)
		}
		facts.Org = name(holder)
	}
	if t.locations != nil {
		t.place(f, &facts)
	}
	return facts, nil
}

// holder returns the name of an AS's holder, which in tables between tabs goes on to the end
// of the line.
func (t *text) holder(f [][]byte) []byte {
	at := t.at[org]
	if at < 0 || at >= len(f) {
		return nil
	}
	if t.sep == '\t' && at == t.count-1 {
		return bytes.Join(f[at:], []byte("\t"))
	}
	return f[at]
}

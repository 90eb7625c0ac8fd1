package asn

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/temp"
)

// An AutNum is the record of an autonomous system in the database of a registry.
type AutNum struct {
	Text   string // its lines as they are there, in UTF-8, each with its end
	Source Info
}

// AutNums are the aut-num records of dumps, kept in files and not in memory. They are safe for
// concurrent use.
type AutNums struct {
	dumps []dump
}

// A dump is one indexed file.
type dump struct {
	name    string
	info    Info
	texts   *os.File
	entries []autNumEntry
	starts  []ranges.Start[ranges.V4] // of numbers; the ID is the index of their entry plus one
	temp    bool                      // texts is a temporary file
}

// An autNumEntry is the position of the record of some AS numbers.
type autNumEntry struct {
	first, last uint32
	offset      uint64
	size        uint32
	cut         bool // the text is not whole
}

// OpenAutNums opens dumps of registries' databases. It reads the aut-num objects in the RPSL
// (RFC 2622) of RIPE NCC, APNIC and AFRINIC. It reads those of LACNIC, which have no AS before
// the number. It reads ARIN's own form with ASHandle and ASNumber, where a record may have
// several numbers. Dumps may be plain or compressed with gzip, bzip2, xz or zstd. Bytes that are not UTF-8 are
// read as ISO 8859-1. The date is the one in the file's name, or its modification time.
//
// Each dump is read once. Its records and their index are kept in a file of the folder until
// the dump's size or modification time changes. A missing folder is made. If folder is empty,
// these files are temporary. Close the AutNums to free them.
//
// A dump may have 17,179,869,184 bytes of content; its records, of which there may be
// 16,777,216, may have 2,147,483,648 bytes and each 16,777,216. More is an error, but a
// longer record is cut, as is a line of more than 1,048,576 bytes; Warnings reports both. A dump that is cut off or damaged is an error. A damaged file in the
// folder is not: it is made again.
func OpenAutNums(folder string, names ...string) (*AutNums, error) {
	a := &AutNums{}
	for _, name := range names {
		d, err := openDump(folder, name)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("asn: %w", err)
		}
		a.dumps = append(a.dumps, d)
	}
	return a, nil
}

// Warnings returns a sentence for each dump with records that are not whole, without the
// package's name.
func (a *AutNums) Warnings() []string {
	var all []string
	for _, d := range a.dumps {
		var cut []ASRange
		for _, e := range d.entries {
			if e.cut {
				cut = append(cut, ASRange{e.first, e.last})
			}
		}
		if len(cut) > 0 {
			all = append(all, d.name+": "+cutRecords(cut))
		}
	}
	return all
}

// cutRecords says of which numbers the records are cut.
func cutRecords(cut []ASRange) string {
	which := fmt.Sprintf("the record of %v is", cut[0])
	if n := len(cut) - 1; n > 0 {
		which = fmt.Sprintf("the records of %v and %s are", cut[0], numbers.Count(n, "other", "others"))
	}
	return fmt.Sprintf("%s cut: longer than %s bytes, or with a line longer than %s", which, numbers.Thousands(maxAutNum), numbers.Thousands(maxLine))
}

// CountAutNums returns how many records of a dump OpenAutNums reads, and what users should know
// of them. It keeps none, and fails where OpenAutNums does.
func CountAutNums(r io.Reader) (n int64, remarks []string, err error) {
	br := bufio.NewReader(r)
	skipMark(br)
	var cut []ASRange
	err = readAutNums(br, func(first, last uint32, _ []byte, isCut bool) error {
		if n++; isCut {
			cut = append(cut, ASRange{first, last})
		}
		return nil
	})
	if len(cut) > 0 {
		remarks = []string{cutRecords(cut)}
	}
	if err == nil && n == 0 {
		err = errNoAutNums
	}
	return n, remarks, named(err)
}

var errNoAutNums = errors.New("has no aut-num records: the file is cut off or of another kind")

// Close closes all files. Lookup then fails.
func (a *AutNums) Close() error {
	var errs []error
	for _, d := range a.dumps {
		errs = append(errs, d.close())
	}
	return errors.Join(errs...)
}

func (d dump) close() error {
	err := d.texts.Close()
	if d.temp {
		err = errors.Join(err, os.Remove(d.texts.Name()))
	}
	return err
}

// Lookup reads the record of an AS number. The first dump that has one wins; in a dump the
// narrowest record wins, then the first. It returns false if there is none, or on an error.
func (a *AutNums) Lookup(number uint32) (AutNum, bool, error) {
	for _, d := range a.dumps {
		e, ok := d.find(number)
		if !ok {
			continue
		}
		text := make([]byte, e.size)
		if _, err := d.texts.ReadAt(text, int64(e.offset)); err != nil {
			return AutNum{}, false, fmt.Errorf("asn: aut-num of AS%d: %w", number, err)
		}
		return AutNum{layout.UTF8(text), d.info}, true, nil
	}
	return AutNum{}, false, nil
}

func (d *dump) find(number uint32) (autNumEntry, bool) {
	id := ranges.Find(d.starts, ranges.V4(number))
	if id == 0 {
		return autNumEntry{}, false
	}
	return d.entries[id-1], true
}

// arrange computes starts from the entries, which may overlap in any way.
func (d *dump) arrange() {
	rows := make([]ranges.Row[ranges.V4], 0, len(d.entries))
	// Of equal rows the later wins, but of equal entries the first must.
	for i, e := range slices.Backward(d.entries) {
		rows = append(rows, ranges.Row[ranges.V4]{First: ranges.V4(e.first), Last: ranges.V4(e.last), ID: uint32(i + 1)})
	}
	d.starts = ranges.Resolve(rows)
}

// The file in the cache has the texts and the entries in the form of autNumEntry. Its end is
// magic, the size and modification time of the dump, the number of entries and their checksum.
// All numbers are little-endian and have 64 bits.
const (
	autNumMagic   = "connmap aut-num2"
	autNumTail    = len(autNumMagic) + 4*8
	autNumEntryLn = 4 + 4 + 8 + 4
	autNumCut     = 1 << 31 // is added to the size of a record that is cut
)

// openDump opens a dump. Its errors name the file.
func openDump(cache, name string) (dump, error) {
	f, err := openRegistry(name, maxDump)
	if err != nil {
		return dump{}, err
	}
	defer f.Close()
	d := dump{name: name, info: f.info}
	var cached string
	if cache != "" && f.stat.Mode().IsRegular() {
		abs, err := filepath.Abs(name)
		if err != nil {
			return dump{}, err
		}
		sum := sha256.Sum256([]byte(abs))
		cached = filepath.Join(cache, fmt.Sprintf("aut-num-%x", sum[:8]))
		if d.load(cached, f) {
			return d, nil
		}
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return dump{}, err
		}
	} else {
		cache = ""
	}
	texts, err := temp.Create(cache, "aut-num-*.new")
	if err != nil {
		return dump{}, err
	}
	d.texts, d.temp = texts, true
	if err := d.index(f); err != nil {
		d.close()
		return dump{}, fmt.Errorf("%s: %w", name, err)
	}
	if cached != "" {
		// If an open file cannot be renamed, it stays temporary.
		d.temp = os.Rename(texts.Name(), cached) != nil
	}
	d.arrange()
	return d, nil
}

// load opens what index has written, and reports whether it is from the present dump.
func (d *dump) load(cached string, f *file) bool {
	texts, err := os.Open(cached)
	if err != nil {
		return false
	}
	if d.entries, err = readIndex(texts, f); err != nil {
		texts.Close()
		return false
	}
	d.texts = texts
	d.arrange()
	return true
}

func readIndex(texts *os.File, f *file) ([]autNumEntry, error) {
	wrong := errors.New("asn: index is damaged or of another file")
	size, err := texts.Seek(0, io.SeekEnd)
	if err != nil || size < int64(autNumTail) {
		return nil, wrong
	}
	tail := make([]byte, autNumTail)
	if _, err := texts.ReadAt(tail, size-int64(autNumTail)); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(tail[len(tail)-16:])
	if n > ranges.Max || int64(n)*int64(autNumEntryLn) > size-int64(autNumTail) {
		return nil, wrong
	}
	index := make([]byte, int(n)*autNumEntryLn)
	end := size - int64(autNumTail) - int64(len(index)) // of the texts
	if _, err := texts.ReadAt(index, end); err != nil {
		return nil, err
	}
	if !bytes.Equal(tail, indexTail(f, index)) {
		return nil, wrong
	}
	entries := make([]autNumEntry, n)
	for i := range entries {
		b, le := index[i*autNumEntryLn:], binary.LittleEndian
		size := le.Uint32(b[16:])
		e := autNumEntry{le.Uint32(b), le.Uint32(b[4:]), le.Uint64(b[8:]), size &^ autNumCut, size&autNumCut != 0}
		entries[i] = e
		if e.size == 0 || e.size > maxAutNum || e.offset+uint64(e.size) > uint64(end) || e.offset > uint64(end) || i > 0 && e.last < entries[i-1].last || e.last < e.first {
			return nil, wrong
		}
	}
	return entries, nil
}

func indexTail(f *file, index []byte) []byte {
	le := binary.LittleEndian
	sum := sha256.Sum256(index)
	t := append([]byte(nil), autNumMagic...)
	t = le.AppendUint64(t, uint64(f.stat.Size()))
	t = le.AppendUint64(t, uint64(f.stat.ModTime().UnixNano()))
	t = le.AppendUint64(t, uint64(len(index)/autNumEntryLn))
	return append(t, sum[:8]...)
}

// index writes the texts of a dump, and their entries.
func (d *dump) index(f *file) error {
	w := bufio.NewWriterSize(d.texts, 256<<10)
	var offset uint64
	err := readAutNums(f, func(first, last uint32, text []byte, cut bool) error {
		if len(d.entries) == ranges.Max {
			return ranges.ErrTooMany
		}
		d.entries = append(d.entries, autNumEntry{first, last, offset, uint32(len(text)), cut})
		if offset += uint64(len(text)); offset > maxAutNums {
			return fmt.Errorf("records of more than %d bytes: not a registry's dump", int64(maxAutNums))
		}
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	if len(d.entries) == 0 {
		return errNoAutNums
	}
	slices.SortStableFunc(d.entries, func(a, b autNumEntry) int { return cmp.Compare(a.last, b.last) })
	le := binary.LittleEndian
	index := make([]byte, 0, len(d.entries)*autNumEntryLn)
	for _, e := range d.entries {
		index = le.AppendUint32(le.AppendUint32(index, e.first), e.last)
		size := e.size
		if e.cut {
			size |= autNumCut
		}
		index = le.AppendUint32(le.AppendUint64(index, e.offset), size)
	}
	w.Write(index)
	w.Write(indexTail(f, index))
	return w.Flush()
}

const (
	maxAutNum  = 16 << 20 // bytes of one record, several times the largest seen; a longer one is cut
	maxAutNums = 2 << 30  // bytes of all records, which are kept on disk
)

// readAutNums calls record for each record of AS numbers in a dump; text is valid until it
// returns, and cut if more belongs to it. Objects are separated by empty lines. Lines that begin with # or % are comments.
func readAutNums(r io.Reader, record func(first, last uint32, text []byte, cut bool) error) error {
	const (
		before  = iota // before the first attribute of an object
		keep           // in an object that may be a record
		discard        // in another object
	)
	var (
		lr          = newLineReader(r)
		state       = before
		text        []byte
		first, last uint32
		known       bool // first and last
		full        bool // text is as long as it may be
		cut         bool // text is not whole
	)
	end := func() error {
		defer func() { state, text, known, full, cut = before, text[:0], false, false, false }()
		if state == keep && known {
			return record(first, last, text, cut)
		}
		return nil
	}
	for {
		line, err := lr.next()
		if err == io.EOF {
			return end()
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lr.number, err)
		}
		if len(line) == 0 {
			if err := end(); err != nil {
				return err
			}
			continue
		}
		if state == discard {
			continue
		}
		comment := line[0] == '#' || line[0] == '%'
		if state == before && comment {
			continue
		}
		if !comment {
			name, value, _ := bytes.Cut(line, []byte(":"))
			switch {
			case state == before && bytes.EqualFold(name, []byte("aut-num")):
				state = keep
				first, last, known = parseASRange(value)
			case state == before && bytes.EqualFold(name, []byte("ASHandle")):
				state = keep
			case state == before:
				state = discard
				continue
			case !known && bytes.EqualFold(name, []byte("ASNumber")):
				first, last, known = parseASRange(value)
			}
		}
		full = full || len(text)+len(line) >= maxAutNum
		cut = cut || full || lr.cut
		if !full {
			text = append(append(text, line...), '\n')
		}
	}
}

// parseASRange parses a number, or two with a hyphen between; # begins a comment.
func parseASRange(value []byte) (first, last uint32, ok bool) {
	value, _, _ = bytes.Cut(value, []byte("#"))
	a, b, two := strings.Cut(string(value), "-")
	first, err := parseAS(strings.TrimSpace(a))
	if err != nil {
		return 0, 0, false
	}
	last = first
	if two {
		last, err = parseAS(strings.TrimSpace(b))
	}
	return first, last, err == nil && first <= last
}

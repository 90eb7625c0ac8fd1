package asn

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/unpack"
)

// An Org is the organisation that holds an autonomous system. It is a comparable value; the zero
// Org is none.
type Org struct {
	ID      string // such as GOGL-ARIN; empty if unknown
	Name    string // in UTF-8, as the data have it
	Country string // ISO 3166-1 alpha-2 code; empty if unknown
	ASName  string // short name of the AS; empty if unknown
	Source  Info
}

// Orgs are the organisations of autonomous systems. They are immutable and safe for concurrent
// use. The zero Orgs are empty.
type Orgs struct {
	info Info
	ases []orgAS // by number
	orgs []Org   // without ASName and Source

	remarks []string
}

type orgAS struct {
	number uint32
	org    int32 // index in orgs; -1: none
	name   string
}

// OpenOrgs reads CAIDA's AS organisations, as text (as-org2info.txt) or as JSON lines
// (as-org2info.jsonl). It also reads a GDBM file that maps AS numbers to names, such as
// caida_asn_to_name.dbm. The format is recognised by the content, which may be compressed with
// gzip, bzip2, xz or zstd. A bad row is skipped and reported by [Orgs.Remarks]. Names that are not UTF-8 are read as ISO 8859-1. The date is the file's
// modification time. It may have 536,870,912 bytes of content.
//
// The form: https://www.caida.org/catalog/datasets/as-organizations/
func OpenOrgs(name string) (*Orgs, error) {
	f, err := openRegistry(name, maxOrgs)
	if err != nil {
		return nil, fmt.Errorf("asn: %w", err)
	}
	defer f.Close()
	o, err := readOrgs(f, f.info)
	if err != nil {
		return nil, fmt.Errorf("asn: %s: %w", name, err)
	}
	if future := unpack.FutureDate(name, f.stat.ModTime()); !future.IsZero() {
		o.remarks = append(o.remarks, unpack.FutureRemark(future))
	}
	return o, nil
}

// Info describes the file.
func (o *Orgs) Info() Info { return o.info }

// Remarks are what users should know of the file, such as how many rows could not be read and
// were left out.
func (o *Orgs) Remarks() []string { return o.remarks }

// Lookup returns the organisation of an autonomous system, and whether the table has an
// organisation or a name for it.
func (o *Orgs) Lookup(number uint32) (Org, bool) {
	i, ok := slices.BinarySearchFunc(o.ases, number, func(a orgAS, n uint32) int { return cmp.Compare(a.number, n) })
	if !ok {
		return Org{}, false
	}
	var org Org
	if a := o.ases[i]; a.org >= 0 {
		org = o.orgs[a.org]
	}
	org.ASName, org.Source = o.ases[i].name, o.info
	if org.Name == "" {
		org.Name = org.ASName
	}
	return org, org.Name != ""
}

// readOrgs reads any of the formats. Its errors do not name the package.
func readOrgs(f interface {
	io.Reader
	Peek(int) ([]byte, error)
}, info Info) (*Orgs, error) {
	b := orgBuilder{orgs: make(map[string]int32)}
	head, _ := f.Peek(4)
	var err error
	switch {
	case isGDBM(head):
		err = b.gdbm(f)
	case len(head) > 0 && head[0] == '{':
		err = b.json(f)
	default:
		err = b.text(f)
	}
	if err != nil {
		return nil, err
	}
	if len(b.o.ases) == 0 {
		return nil, errors.New("has no AS numbers: the file is cut off or of another kind")
	}
	o := &b.o
	o.info, o.remarks = info, b.remarks
	slices.SortStableFunc(o.ases, func(a, b orgAS) int { return cmp.Compare(a.number, b.number) })
	// Of equal numbers the last is kept.
	slices.Reverse(o.ases)
	o.ases = slices.CompactFunc(o.ases, func(a, b orgAS) bool { return a.number == b.number })
	slices.Reverse(o.ases)
	return o, nil
}

type orgBuilder struct {
	o       Orgs
	orgs    map[string]int32 // by ID, index in o.orgs
	remarks []string
}

// org returns the index of an organisation. Only its ID may be known so far: either section may
// come first.
func (b *orgBuilder) org(id string) int32 {
	if id == "" {
		return -1
	}
	i, ok := b.orgs[id]
	if !ok {
		i = int32(len(b.o.orgs))
		id = strings.Clone(id)
		b.orgs[id] = i
		b.o.orgs = append(b.o.orgs, Org{ID: id})
	}
	return i
}

func (b *orgBuilder) addOrg(id, name, country string) {
	if i := b.org(id); i >= 0 {
		b.o.orgs[i].Name, b.o.orgs[i].Country = layout.UTF8(name), strings.Clone(strings.ToUpper(country))
	}
}

func (b *orgBuilder) addAS(number uint32, name, org string) {
	b.o.ases = append(b.o.ases, orgAS{number, b.org(org), layout.UTF8(name)})
}

// lines reads each line that has something by row, and counts those that are bad.
func (b *orgBuilder) lines(r io.Reader, row func(line []byte) error) error {
	lr := newLineReader(r)
	good, bad := 0, 0
	var first error
	for {
		line, err := lr.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lr.number, err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err = errLong; !lr.cut || line[0] == '#' {
			err = row(line)
		}
		if err == nil {
			good++
		} else if bad++; first == nil {
			first = fmt.Errorf("line %d: %w", lr.number, err)
		}
	}
	if first != nil && bad >= good {
		return first
	}
	if !lr.ended {
		b.remarks = append(b.remarks, "it is truncated in its last line")
	}
	if first != nil {
		b.remarks = append(b.remarks, fmt.Sprintf("%s left out: %v", numbers.Count(bad, "row is", "rows are"), first))
	}
	return nil
}

// text reads the two sections, each after a comment that names its columns.
func (b *orgBuilder) text(r io.Reader) error {
	const (
		none = iota // before the first section
		orgSection
		asSection
	)
	section := none
	var f [][]byte
	return b.lines(r, func(line []byte) error {
		if line[0] == '#' {
			// Some files have a blank before the first column.
			if _, format, ok := bytes.Cut(line, []byte("format:")); ok {
				switch format = bytes.TrimSpace(format); {
				case bytes.HasPrefix(format, []byte("org_id|")):
					section = orgSection
				case bytes.HasPrefix(format, []byte("aut|")):
					section = asSection
				default:
					return fmt.Errorf("expected columns org_id|... or aut|..., found %q", clip(format))
				}
			}
			return nil
		}
		if section == none {
			return fmt.Errorf("expected a line # format:org_id|... or # format:aut|... before it, as in CAIDA's as-org2info, found %q", clip(line))
		}
		f = f[:0]
		for field := range bytes.SplitSeq(line, []byte("|")) {
			f = append(f, field)
		}
		if len(f) < orgColumns {
			return fmt.Errorf("expected %d columns or more separated by |, found %d", orgColumns, len(f))
		}
		if section == orgSection {
			name, rest := barred(f, 5)
			b.addOrg(string(f[0]), name, string(rest[0]))
			return nil
		}
		number, err := parseAS(string(f[0]))
		if err != nil {
			return err
		}
		name, rest := barred(f, 6)
		b.addAS(number, name, string(rest[0]))
		return nil
	})
}

// barred returns the name, which is the third of the columns, and those behind it. If there are
// more than most columns the name has bars.
func barred(f [][]byte, most int) (name string, rest [][]byte) {
	end := 3 + max(0, len(f)-most)
	return string(bytes.Join(f[2:end], []byte("|"))), f[end:]
}

// orgColumns is how many columns are needed of either section: of
// org_id|changed|org_name|country|source and of
// aut|changed|aut_name|org_id|opaque_id|source.
const orgColumns = 4

// json reads one object from each line.
func (b *orgBuilder) json(r io.Reader) error {
	return b.lines(r, func(line []byte) error {
		var v struct {
			Type, Name, Country string
			ASN                 any    // a text, or a number in files of others
			ID                  string `json:"organizationId"`
		}
		// The decoder would replace invalid UTF-8.
		if err := json.Unmarshal([]byte(layout.UTF8(line)), &v); err != nil {
			return err
		}
		switch v.Type {
		case "Organization":
			b.addOrg(v.ID, v.Name, v.Country)
		case "ASN":
			if n, ok := v.ASN.(float64); ok {
				v.ASN = strconv.FormatFloat(n, 'f', -1, 64)
			}
			number, err := parseAS(fmt.Sprint(v.ASN))
			if err != nil {
				return err
			}
			b.addAS(number, v.Name, v.ID)
		default:
			return fmt.Errorf("expected type Organization or ASN, found %q", clip([]byte(v.Type)))
		}
		return nil
	})
}

// gdbm reads a GDBM file that maps AS numbers to names. Other keys are ignored.
func (b *orgBuilder) gdbm(r io.Reader) error {
	data, err := unpack.All(r, 0, maxOrgs)
	if err != nil {
		return err
	}
	return readGDBM(data, func(key, value []byte) {
		// C programs also store the zero byte at the end of a string.
		key, value = bytes.TrimRight(key, "\x00"), bytes.TrimRight(value, "\x00")
		if number, err := parseAS(string(key)); err == nil {
			b.addAS(number, string(value), "")
		}
	})
}

// ParseAS parses an AS number, with or without AS before it, also as two numbers with a point
// between.
func ParseAS(s string) (uint32, error) {
	n, err := parseAS(s)
	return n, named(err)
}

// parseAS is ParseAS, but its errors do not name the package.
func parseAS(s string) (uint32, error) {
	digits := s
	if len(s) > 2 && strings.EqualFold(s[:2], "AS") {
		digits = s[2:]
	}
	high, low, point := strings.Cut(digits, ".")
	n, err := strconv.ParseUint(high, 10, 32)
	if point && err == nil {
		var m uint64
		m, err = strconv.ParseUint(low, 10, 16)
		if n > 0xffff {
			err = strconv.ErrRange
		}
		n = n<<16 | m
	}
	if err != nil {
		return 0, fmt.Errorf("expected an AS number from 0 to 4294967295, found %q", clip([]byte(s)))
	}
	return uint32(n), nil
}

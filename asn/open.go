package asn

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Open reads a table from a file: the IPv4 or IPv6 blocks of GeoLite2-ASN as
// CSV, or an .mmdb file with autonomous_system_number, both also compressed with gzip.
// The format is told by the content, not by the name. Columns of a CSV file
// are found by their names in its first line, so further ones do no harm, and
// rows without a number have no AS.
//
// The table is read whole: the file may change or vanish afterwards. Its date
// is that of the .mmdb file's metadata or of the CSV file's last change.
func Open(name string) (*DB, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("asn: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("asn: %w", err)
	}
	if stat.IsDir() {
		return nil, fmt.Errorf("asn: %s: is a folder, want a file", name)
	}
	db, err := read(f, Info{filepath.Base(name), stat.ModTime().Truncate(time.Second).UTC()})
	if err != nil {
		return nil, fmt.Errorf("asn: %s: %w", name, err)
	}
	return db, nil
}

const (
	numberColumn  = "autonomous_system_number"
	orgColumn     = "autonomous_system_organization"
	networkColumn = "network"

	csvWanted = "a line that names the columns " + networkColumn + ", " + numberColumn + " and " + orgColumn
)

// mmdbMark begins the metadata, in the last 128 KiB of an .mmdb file.
const mmdbMark = "\xab\xcd\xefMaxMind.com"

// read reads a table of any format that Open knows. Its errors do not say the
// package's name.
func read(r io.Reader, info Info) (*DB, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if head, _ := br.Peek(2); string(head) == "\x1f\x8b" {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("damaged gzip file: %w", err)
		}
		br = bufio.NewReaderSize(zr, 64<<10)
	}
	if head, _ := br.Peek(3); string(head) == "\xef\xbb\xbf" {
		br.Discard(3)
	}
	head, err := br.Peek(4096)
	if err != nil && err != io.EOF {
		return nil, damaged(err)
	}
	if len(head) == 0 {
		return nil, errors.New("is empty")
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	b := newBuilder()
	if bytes.Contains(line, []byte(numberColumn)) {
		if err := readCSV(br, b); err != nil {
			return nil, err
		}
	} else {
		line = bytes.TrimSpace(line[:min(len(line), 60)])
		all, err := io.ReadAll(br)
		if err != nil {
			return nil, damaged(err)
		}
		if !bytes.Contains(all[max(0, len(all)-128<<10):], []byte(mmdbMark)) {
			return nil, fmt.Errorf("line 1: want %s, or an .mmdb file, found %q", csvWanted, line)
		}
		if info.Date, err = readMMDB(all, b); err != nil {
			return nil, err
		}
	}
	if len(b.rows) == 0 {
		return nil, errors.New("has no networks: the file is cut off or of another kind")
	}
	return b.db(info)
}

// damaged explains an error of reading a file that could be opened.
func damaged(err error) error {
	return fmt.Errorf("file is damaged or cut off: %w", err)
}

func readCSV(r io.Reader, b *builder) error {
	cr := csv.NewReader(r)
	cr.ReuseRecord = true
	header, err := cr.Read()
	if err != nil {
		return csvError(err, 1)
	}
	column := func(name string) int {
		return slices.IndexFunc(header, func(s string) bool { return strings.TrimSpace(s) == name })
	}
	network, number, org := column(networkColumn), column(numberColumn), column(orgColumn)
	if network < 0 || number < 0 || org < 0 {
		return fmt.Errorf("line 1: want %s, found %q", csvWanted, strings.Join(header, ","))
	}
	for line := 2; ; {
		fields, err := cr.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return csvError(err, line)
		}
		line, _ = cr.FieldPos(0)
		prefix, err := netip.ParsePrefix(fields[network])
		if err != nil {
			return fmt.Errorf("line %d: want a network such as 192.0.2.0/24, found %q", line, fields[network])
		}
		as := AS{Org: fields[org]}
		if s := fields[number]; s != "" {
			n, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return fmt.Errorf("line %d: want an AS number from 0 to 4294967295, found %q", line, s)
			}
			as.Number = uint32(n)
		}
		if err := b.add(prefix, as); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// csvError adds the line, unless the reader stopped at or after a line for
// reasons that are not in the text.
func csvError(err error, line int) error {
	if pe, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d: %w", pe.Line, pe.Err)
	}
	return fmt.Errorf("line %d or after: %w", line, damaged(err))
}

// readMMDB returns the date of the data.
func readMMDB(file []byte, b *builder) (time.Time, error) {
	r, err := maxminddb.OpenBytes(file)
	if err != nil {
		return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
	}
	defer r.Close()
	// Most networks share their record with others.
	records := make(map[uintptr]AS)
	for result := range r.Networks() {
		if err := result.Err(); err != nil {
			return time.Time{}, fmt.Errorf("damaged .mmdb file: %w", err)
		}
		as, ok := records[result.Offset()]
		if !ok {
			var record struct {
				Number uint32 `maxminddb:"autonomous_system_number"`
				Org    string `maxminddb:"autonomous_system_organization"`
			}
			if err := result.Decode(&record); err != nil {
				return time.Time{}, fmt.Errorf("damaged .mmdb file: network %s: %w", result.Prefix(), err)
			}
			as = AS{record.Number, record.Org}
			records[result.Offset()] = as
		}
		if as.Number == 0 {
			continue
		}
		if err := b.add(result.Prefix(), as); err != nil {
			return time.Time{}, err
		}
	}
	if len(b.rows) == 0 {
		return time.Time{}, fmt.Errorf("an .mmdb file of type %q has no %s: want one such as GeoLite2-ASN", r.Metadata.DatabaseType, numberColumn)
	}
	return r.Metadata.BuildTime().UTC(), nil
}

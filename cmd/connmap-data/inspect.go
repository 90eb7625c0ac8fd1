package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/mmdb"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/terminal"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A content is what inspect finds in a file.
type content struct {
	kind     string // such as "iptoasn TSV"; empty: not recognised
	rows     int64
	date     time.Time // zero: unknown
	promised int64     // rows that the file claims to have; 0: unknown
}

// unpackedLimit is the maximum of bytes that a compressed file may unpack to.
const unpackedLimit = 8 << 30

var errWebPage = errors.New("a web page, not data: is there a login or captive portal?")

// inspect reads a file to its end, recognises its kind by its content, counts its rows and checks
// the form of each. The error says where a file is damaged, or that it has more than limit
// bytes of content. An unknown kind is no error.
func inspect(name string, limit int64) (content, error) {
	f, info, err := unpack.Open(name)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	r, err := unpack.Reader(f, limit)
	if err != nil {
		return content{}, err
	}
	head, err := r.Peek(64 << 10)
	switch {
	case err != nil && err != io.EOF:
		return content{}, damaged(err)
	case len(head) == 0:
		return content{}, errors.New("the file is empty")
	case isWebPage(head):
		return content{}, errWebPage
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return content{kind: "SQLite database"}, nil
	case bytes.IndexByte(head, 0) >= 0:
		return inspectBinary(name, r, info.Size(), head)
	}
	return inspectText(r, head)
}

// cutOff returns an error if a file has clearly fewer rows than it claims.
func (c content) cutOff() error {
	if c.rows*10 < c.promised*9 {
		return fmt.Errorf("cut off: %s of %s records", numbers.Thousands(c.rows), numbers.Thousands(c.promised))
	}
	return nil
}

func damaged(err error) error {
	return fmt.Errorf("damaged or cut off: %w", err)
}

func isWebPage(head []byte) bool {
	head = bytes.ToLower(bytes.TrimSpace(head[:min(len(head), 512)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

func inspectBinary(name string, r io.Reader, size int64, head []byte) (content, error) {
	switch {
	case bytes.HasPrefix(head, []byte("\xcf\x9a\x57\x13")):
		_, err := io.Copy(io.Discard, r)
		return content{kind: "GDBM"}, err
	case bytes.HasPrefix(head, []byte("asntable")):
		db, err := asn.Open(name)
		if err != nil {
			return content{}, err
		}
		return content{kind: "compiled networks", date: db.Info().Date}, nil
	case bytes.HasPrefix(head, []byte("cmgeoip\x00")):
		db, err := geoip.Open(name)
		if err != nil {
			return content{}, err
		}
		info := db.Info()
		return content{kind: "compiled places", rows: int64(info.Ranges), date: info.Date}, nil
	}
	all, err := unpack.All(r, size, maxDB)
	if err != nil {
		return content{}, damaged(err)
	}
	if !mmdb.Is(all) {
		return content{}, nil
	}
	db, err := mmdb.Open(all)
	if err != nil {
		return content{}, damaged(err)
	}
	c := content{kind: "MaxMind DB " + terminal.Clean(db.Type, terminal.Reply), date: db.Built}
	for _, err := range db.Networks() {
		if err != nil {
			return content{}, damaged(err)
		}
		c.rows++
	}
	return c, nil
}

// A kind is a text format. is recognises it by the first line that is not a comment. count
// reports whether a line is a row, or what is wrong with it.
type kind struct {
	name  string
	is    func(line string) bool
	count func(line string) (bool, error)
}

// header recognises CSV files by the names of their columns.
func header(names ...string) func(string) bool {
	return func(line string) bool {
		columns := strings.Split(line, ",")
		for _, name := range names {
			found := false
			for _, c := range columns {
				found = found || strings.Trim(c, `" `) == name
			}
			if !found {
				return false
			}
		}
		return true
	}
}

// network checks a row that begins with a network.
func network(line string) (bool, error) {
	first, _, more := strings.Cut(line, ",")
	if first == "network" {
		return false, nil
	}
	first = strings.Trim(first, `"`)
	if _, err := netip.ParsePrefix(first); err != nil {
		// IPinfo writes a network of one address without a length.
		if _, err := netip.ParseAddr(first); err != nil || !more {
			return false, fmt.Errorf("expected a network such as 192.0.2.0/24 and more columns, found %.60q", line)
		}
	}
	return true, nil
}

// addresses returns a function that checks rows with n columns, of which the first two are the
// first and the last address of a range.
func addresses(separator byte, n int, parse func(string) bool) func(string) (bool, error) {
	return func(line string) (bool, error) {
		first, rest, _ := strings.Cut(line, string(separator))
		last, _, more := strings.Cut(rest, string(separator))
		if columns := columns(line, separator); columns != n {
			return false, fmt.Errorf("expected %d columns, found %d in %.60q", n, columns, line)
		}
		if !more || !parse(strings.Trim(first, `"`)) || !parse(strings.Trim(last, `"`)) {
			return false, fmt.Errorf("expected the first and the last address of a range, found %.60q", line)
		}
		return true, nil
	}
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isDecimal(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// columns counts the columns of a line. Commas within quotes separate none.
func columns(line string, separator byte) int {
	n, quoted := 1, false
	for i := range len(line) {
		switch line[i] {
		case '"':
			quoted = !quoted && separator == ','
		case separator:
			if !quoted {
				n++
			}
		}
	}
	return n
}

func every(string) (bool, error) { return true, nil }

func isRow(count func(string) (bool, error)) func(string) bool {
	return func(line string) bool {
		ok, err := count(line)
		return ok && err == nil
	}
}

var (
	dbipCity    = addresses(',', 8, isAddr)
	dbipASN     = addresses(',', 4, isAddr)
	dbipCountry = addresses(',', 3, isAddr)
	iptoasn     = addresses('\t', 5, isAddr)
	ipv4CSV     = addresses(',', 4, isDecimal)
	torCountry  = addresses(',', 3, isDecimal)
)

// kinds are tried in this order.
var kinds = []kind{
	{"GeoLite2 ASN CSV", header("network", "autonomous_system_number"), network},
	{"GeoLite2 City CSV", header("network", "geoname_id", "latitude"), network},
	{"GeoLite2 Country CSV", header("network", "geoname_id"), network},
	{"GeoLite2 locations CSV", header("geoname_id", "country_iso_code"), every},
	{"IPinfo Lite CSV", header("network", "country_code", "asn", "as_name"), network},
	{"DB-IP City CSV", isRow(dbipCity), dbipCity},
	{"DB-IP ASN CSV", isRow(dbipASN), dbipASN},
	{"country CSV", isRow(dbipCountry), dbipCountry},
	{"iptoasn TSV", isRow(iptoasn), iptoasn},
	{"connmap CSV", isRow(ipv4CSV), ipv4CSV},
	{"country CSV", isRow(torCountry), torCountry},
	{"registry database", isRPSL, isAutNum},
	{"CAIDA as-org2info", func(line string) bool {
		return strings.HasPrefix(line, "{") && strings.Contains(line, `"organizationId"`)
	}, func(line string) (bool, error) { return strings.Contains(line, `"type":"ASN"`), nil }},
}

// isRPSL recognises the first attribute of a record in a registry's database.
func isRPSL(line string) bool {
	attribute, _, ok := strings.Cut(line, ":")
	switch strings.ToLower(attribute) {
	case "aut-num", "as-block", "as-set", "inetnum", "inet6num", "organisation", "route", "route6", "mntner", "person", "role", "ashandle", "owner", "*xxte", "filter-set", "route-set", "domain", "irt", "key-cert", "inet-rtr", "peering-set", "rtr-set":
		return ok
	}
	return false
}

func isAutNum(line string) (bool, error) {
	attribute, _, ok := strings.Cut(line, ":")
	return ok && (strings.EqualFold(attribute, "aut-num") || strings.EqualFold(attribute, "ASHandle")), nil
}

func inspectText(r io.Reader, head []byte) (content, error) {
	var c content
	var count func(string) (bool, error)
	switch line := firstLine(head); {
	case bytes.Contains(head, []byte("format:org_id|")) || bytes.Contains(head, []byte("format:aut|")):
		c.kind, count = "CAIDA as-org2info", orgRows()
	case strings.HasPrefix(line, "2") && strings.Count(line, "|") == 6:
		field := strings.Split(line, "|")
		c.kind, count = "delegations of "+terminal.Clean(field[1], 20), delegation
		c.promised, _ = strconv.ParseInt(field[3], 10, 64)
		for _, date := range []string{field[5], field[2]} {
			if t, err := time.Parse("20060102", date); err == nil {
				c.date = t
				break
			}
		}
	default:
		for _, k := range kinds {
			if k.is(line) {
				c.kind, count = k.name, k.count
				break
			}
		}
	}
	if count == nil {
		_, err := io.Copy(io.Discard, r)
		return c, err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSuffix(lines.Text(), "\r")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" || line[0] == '#' && c.kind != "CAIDA as-org2info" {
			continue
		}
		ok, err := count(line)
		if e := lines.Err(); e != nil {
			err = damaged(e) // the line is not complete
		}
		if err != nil {
			return c, fmt.Errorf("line %d: %w", n, err)
		}
		if ok {
			c.rows++
		}
	}
	if err := lines.Err(); err != nil {
		return c, fmt.Errorf("line %d: %w", n+1, damaged(err))
	}
	return c, nil
}

// firstLine returns the first line that is neither empty nor a comment.
func firstLine(head []byte) string {
	for line := range bytes.Lines(bytes.TrimPrefix(head, []byte("\ufeff"))) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return string(line)
		}
	}
	return ""
}

// delegation reports whether a line of a registry's file is a record. Header and summary lines
// are not.
func delegation(line string) (bool, error) {
	field := strings.SplitN(line, "|", 8)
	if len(field) < 7 {
		return false, nil
	}
	switch field[2] {
	case "asn", "ipv4", "ipv6":
		return true, nil
	}
	return false, nil
}

// orgRows counts the AS numbers of an as-org2info file, in which a comment gives the format of
// the lines after it.
func orgRows() func(string) (bool, error) {
	ases := false
	return func(line string) (bool, error) {
		if line[0] == '#' {
			if _, format, ok := strings.Cut(line, "format:"); ok {
				ases = strings.HasPrefix(strings.TrimSpace(format), "aut|")
			}
			return false, nil
		}
		return ases, nil
	}
}

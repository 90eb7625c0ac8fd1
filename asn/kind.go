package asn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A Kind says which function opens a file.
type Kind uint8

// The kinds of files. The zero Kind is Unknown.
const (
	Unknown        Kind = iota // no function of this package
	TableFile                  // for Open
	DelegationFile             // for OpenDelegations
	OrgFile                    // for OpenOrgs
	AutNumFile                 // for OpenAutNums
)

// String returns what a file of the kind holds.
func (k Kind) String() string {
	return [...]string{"unknown", "AS numbers of addresses", "delegations", "organisations", "aut-num records"}[min(k, AutNumFile)]
}

// Recognise returns the kind of a file by its beginning, whatever its name. A binary file is read
// whole if its beginning or end is that of a table. It fails if the file cannot be read. What it
// recognises may still be damaged.
func Recognise(name string) (Kind, error) {
	f, err := openFile(name, layout.Max)
	if err != nil {
		return Unknown, fmt.Errorf("asn: %w", err)
	}
	defer f.Close()
	if k := recognise(f.Reader); k != Unknown {
		return k, nil
	}
	kind, err := layout.Recognise(&ranges.File{Reader: f.Reader, Name: name, Size: f.stat.Size(), At: f.f})
	switch {
	case kind.Networks:
		return TableFile, nil
	case err == nil, errors.Is(err, layout.ErrUnknown), errors.Is(err, unpack.ErrTooLarge):
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("asn: %s: %w", name, err)
}

// recognise reads the first 64 KiB.
func recognise(r *bufio.Reader) Kind {
	head, _ := r.Peek(64 << 10)
	switch {
	case bytes.HasPrefix(head, []byte(form.Magic)):
		return TableFile
	case isGDBM(head):
		return OrgFile
	case unpack.IsArchive(head):
		return Unknown // whose members have lines too
	}
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case len(line) == 0 || line[0] == '%':
			continue
		case line[0] == '#':
			_, format, _ := bytes.Cut(line, []byte("format:"))
			format = bytes.TrimSpace(format)
			if bytes.HasPrefix(format, []byte("org_id|")) || bytes.HasPrefix(format, []byte("aut|")) {
				return OrgFile
			}
			continue
		case line[0] == '{':
			if bytes.Contains(line, []byte(`"organizationId"`)) {
				return OrgFile
			}
		case isDelegation(line):
			return DelegationFile
		case isAttribute(line):
			return AutNumFile
		}
		return Unknown
	}
	return Unknown
}

// isDelegation reports whether a line is a header, a summary or a record.
func isDelegation(line []byte) bool {
	var f [8][]byte
	n := split(f[:], line)
	if n >= 6 && isNumber(f[0]) || n >= 6 && string(f[1]) == "*" {
		return true
	}
	if n < 7 {
		return false
	}
	switch string(f[2]) {
	case "asn":
		return isNumber(f[3])
	case "ipv4", "ipv6":
		_, err := netip.ParseAddr(string(f[3]))
		return err == nil
	}
	return false
}

// isAttribute reports whether a line may begin an object in a registry's dump.
func isAttribute(line []byte) bool {
	name, _, _ := bytes.Cut(line, []byte(":"))
	switch strings.ToLower(string(name)) {
	case "aut-num", "as-block", "as-set", "inetnum", "inet6num", "route", "route6", "route-set", "domain", "mntner",
		"person", "role", "organisation", "key-cert", "irt", "poem", "filter-set", "inet-rtr", "peering-set", "rtr-set",
		"ashandle", "nethandle", "v6nethandle", "orgid", "pochandle":
		return bytes.IndexByte(line, ':') > 0
	}
	return false
}

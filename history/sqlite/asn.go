package sqlite

import (
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
)

// The column asn is a text such as AS64496, as in connmapperl's table, and empty if unknown.

func formatASN(n uint32) string {
	if n == 0 {
		return ""
	}
	return "AS" + strconv.FormatUint(uint64(n), 10)
}

// parseASN returns the number of a text, with or without AS in any case, and whether it is
// one.
func parseASN(s string) (n uint32, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) > 2 && strings.EqualFold(s[:2], "AS") {
		s = strings.TrimSpace(s[2:])
	}
	u, err := strconv.ParseUint(s, 10, 32)
	return uint32(u), err == nil
}

// asnValue converts a value that asn is compared with: 64496 and '64496' become AS64496.
func asnValue(v sqlite.Value) (sqlite.Value, error) {
	if n, ok := parseASN(v.Text()); ok {
		return sqlite.TextValue("AS" + strconv.FormatUint(uint64(n), 10)), nil
	}
	return v, nil
}

// asnNumber returns the number of an asn, NULL if it has none.
func asnNumber(v sqlite.Value) (sqlite.Value, error) {
	if n, ok := parseASN(v.Text()); ok {
		return sqlite.IntegerValue(int64(n)), nil
	}
	return sqlite.Value{}, nil
}

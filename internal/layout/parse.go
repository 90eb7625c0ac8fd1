package layout

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/ranges"
)

// UTF8 returns a text in UTF-8. Each byte of it that belongs to no character of UTF-8 is read as
// one of ISO 8859-1: registries publish files in which some lines are of one and some of the other.
func UTF8[T string | []byte](text T) string {
	s := string(text)
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = rune(s[0])
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// appendFields appends the fields of a line, of which some may be quoted.
func appendFields(f [][]byte, line []byte, sep byte) [][]byte {
	for {
		var field []byte
		if sep != '\t' && len(line) > 1 && line[0] == ' ' && line[1] == '"' {
			line = line[1:]
		}
		if sep != '\t' && len(line) > 0 && line[0] == '"' {
			field, line = quoted(line, sep)
		} else {
			end := bytes.IndexByte(line, sep)
			if end < 0 {
				return append(f, bytes.TrimSpace(line))
			}
			field, line = bytes.TrimSpace(line[:end]), line[end:]
		}
		f = append(f, field)
		if len(line) == 0 {
			return f
		}
		line = line[1:]
	}
}

// quoted returns the first field of a line that begins with a quotation mark,
// and what follows it: nothing or the separator. Quotation marks inside are
// doubled.
func quoted(line []byte, sep byte) (field, rest []byte) {
	line = line[1:]
	double := false
	for i := 0; i < len(line); i++ {
		if line[i] != '"' {
			continue
		}
		if i+1 < len(line) && line[i+1] == '"' {
			double = true
			i++
			continue
		}
		field, rest = line[:i], line[i+1:]
		if end := bytes.IndexByte(rest, sep); end >= 0 {
			rest = rest[end:]
		} else {
			rest = nil
		}
		if double {
			field = bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
		}
		return field, rest
	}
	return line, nil
}

// An address is of one of both families.
type address struct {
	is6 bool
	v4  ranges.V4
	v6  ranges.V6
}

// parseAddr parses an address in the usual form, or in decimal. Decimal numbers below 2^32
// are taken for IPv4. IPv6 addresses that stand for IPv4 ones become those.
func parseAddr(s []byte) (address, bool) {
	if v, ok := shortDecimal(s); ok {
		return address{v4: ranges.V4(v)}, true
	}
	if v, ok := parse4(s); ok {
		return address{v4: ranges.V4(v)}, true
	}
	if isDigits(s) {
		return parseDecimal(s)
	}
	if len(s) > 45 || bytes.IndexByte(s, ':') < 0 || bytes.IndexByte(s, '%') >= 0 {
		return address{}, false
	}
	a, err := netip.ParseAddr(string(s))
	if err != nil {
		return address{}, false
	}
	return addressOf(a), true
}

func addressOf(a netip.Addr) address {
	if a = a.Unmap(); a.Is4() {
		return address{v4: ranges.Key4(a)}
	}
	return address{is6: true, v6: ranges.Key6(a)}
}

// shortDecimal parses a decimal number below 2^32: most addresses of tables in decimal.
func shortDecimal(s []byte) (uint32, bool) {
	if len(s) == 0 || len(s) > 10 {
		return 0, false
	}
	var v uint64
	for _, c := range s {
		if c -= '0'; c > 9 {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	return uint32(v), v < 1<<32
}

// parse4 parses a dotted IPv4 address, whose parts may have leading zeros. By hand, since
// files have millions of lines.
func parse4(s []byte) (uint32, bool) {
	var b [4]byte
	i, v, digits := 0, 0, 0
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9' && digits < 3:
			v = v*10 + int(c-'0')
			digits++
		case c == '.' && digits > 0 && v < 256 && i < 3:
			b[i] = byte(v)
			i, v, digits = i+1, 0, 0
		default:
			return 0, false
		}
	}
	if i != 3 || digits == 0 || v > 255 {
		return 0, false
	}
	b[3] = byte(v)
	return binary.BigEndian.Uint32(b[:]), true
}

// parseDecimal parses an address that is written as one number of up to 128 bits.
func parseDecimal(s []byte) (address, bool) {
	if len(s) > 39 || len(s) == 0 {
		return address{}, false
	}
	var v ranges.V6
	for _, c := range s {
		hi, lo := bits.Mul64(v.Lo, 10)
		over, top := bits.Mul64(v.Hi, 10)
		lo, carry := bits.Add64(lo, uint64(c-'0'), 0)
		hi, carry2 := bits.Add64(hi, top, carry)
		if over != 0 || carry2 != 0 {
			return address{}, false
		}
		v = ranges.V6{Hi: hi, Lo: lo}
	}
	switch {
	case v.Hi == 0 && v.Lo < 1<<32:
		return address{v4: ranges.V4(v.Lo)}, true
	case v.Hi == 0 && v.Lo>>32 == 0xffff:
		return address{v4: ranges.V4(uint32(v.Lo))}, true
	}
	return address{is6: true, v6: v}, true
}

// decimal6 is a number below 2^32 as an address of IPv6. A table of IPv6 in decimal begins
// with 0.
func (a address) decimal6() address {
	if a.is6 {
		return a
	}
	return address{is6: true, v6: ranges.V6{Lo: uint64(a.v4)}}
}

func isDigits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// parseNetwork parses a network such as 192.0.2.0/24, or one of a single address without a
// length. Bits of the address beyond the length are cleared.
func parseNetwork(s []byte) (netip.Prefix, bool) {
	if len(s) > 49 {
		return netip.Prefix{}, false
	}
	if bytes.IndexByte(s, '/') < 0 {
		a, err := netip.ParseAddr(string(s))
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(string(s))
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, true
}

// degree is the unit of latitude and longitude: as many make a degree.
const degree = 10_000_000

// coordinate parses degrees such as -33.494. Further decimals than seven are cut off. By
// hand, since files have millions of lines.
func coordinate(s []byte, limit int64) (float64, bool) {
	negative := len(s) > 0 && s[0] == '-'
	digits := s
	if negative {
		digits = s[1:]
	}
	whole, fraction, dot := bytes.Cut(digits, []byte("."))
	if !isDigits(whole) || len(whole) > 3 || dot && !isDigits(fraction) {
		// Some write +1, .5 or 1e1.
		f, err := strconv.ParseFloat(string(s[:min(len(s), 32)]), 64)
		return f, err == nil && len(s) <= 32 && bytes.IndexByte(s, '_') < 0 && f >= -float64(limit) && f <= float64(limit)
	}
	var v int64
	for _, c := range whole {
		v = v*10 + int64(c-'0')
	}
	for i := range 7 {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	if v > limit*degree {
		return 0, false
	}
	if negative {
		v = -v
	}
	return float64(v) / degree, true
}

// parseAS parses a number such as 64496, AS64496 or 1.10. Of several origins, which
// RouteViews writes as 64496_64497 and 64496,64497, it returns the first. What stands for
// none is 0.
func parseAS(s []byte) (uint32, bool) {
	if i := bytes.IndexAny(s, "_,"); i > 0 {
		s = s[:i]
	}
	if len(s) > 2 && (s[0] == 'A' || s[0] == 'a') && (s[1] == 'S' || s[1] == 's') {
		s = s[2:]
	}
	if len(s) == 0 || string(s) == "-" {
		return 0, true
	}
	if high, low, ok := bytes.Cut(s, []byte(".")); ok {
		h, err1 := strconv.ParseUint(string(high[:min(len(high), 9)]), 10, 16)
		l, err2 := strconv.ParseUint(string(low[:min(len(low), 9)]), 10, 16)
		return uint32(h<<16 | l), err1 == nil && err2 == nil
	}
	n, err := strconv.ParseUint(string(s[:min(len(s), 11)]), 10, 32)
	return uint32(n), err == nil
}

// parseCountry parses the code of a country. What stands for none is "".
func parseCountry(s []byte) (string, bool) {
	if len(s) == 2 && isLetter(s[0]) && isLetter(s[1]) {
		if s = bytes.ToUpper(s); string(s) == "ZZ" || string(s) == "XX" {
			return "", true
		}
		return string(s), true
	}
	switch strings.ToLower(string(s[:min(len(s), 8)])) {
	case "", "-", "??", "none", "unknown", "n/a", "null":
		return "", true
	}
	return "", false
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

const maxName = 4096 // bytes of which no name has more

// name returns a text that is a name. IP2Location writes - for none.
func name(s []byte) string {
	if string(s) == "-" {
		return ""
	}
	return UTF8(s[:min(len(s), maxName)])
}

// repair widens a range that was a network without its first and last address
// to the network. That is how the tool that makes ipv4.csv writes networks up
// to /30, because it takes the first and last host of each.
func repair(first, last ranges.V4) (ranges.V4, ranges.V4) {
	size := uint64(last) - uint64(first) + 3
	if first > 0 && size >= 4 && size&(size-1) == 0 && uint64(first-1)%size == 0 {
		return first - 1, last + 1
	}
	return first, last
}

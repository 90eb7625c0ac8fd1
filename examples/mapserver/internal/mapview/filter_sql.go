package mapview

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/geoip"
)

// SQL returns the question behind the search: it finds the same connections in the
// history, with no limit on their number. Terms about what the history does not have are
// left out, and a comment names them.
func (f Filter) SQL() string {
	var left, conditions []string
	for _, t := range f.filter.terms {
		c, ok := t.sql()
		switch {
		case !ok:
			left = append(left, t.String())
		case t.not:
			// What is NULL does not fit the term, and so is found.
			conditions = append(conditions, "("+c+") IS NOT TRUE")
		default:
			conditions = append(conditions, "("+c+")")
		}
	}
	s := ""
	if left != nil {
		s = "-- left out, for the history does not have it: " + strings.Join(left, " ") + "\n"
	}
	s += "SELECT timestamp, ip, port, programname, orgname, country, agent, rule, count\nFROM detailed_history\n"
	if conditions != nil {
		s += "WHERE " + strings.Join(conditions, "\n  AND ") + "\n"
	}
	return s + "ORDER BY timestamp DESC"
}

// String is the term as it was typed.
func (t term) String() string {
	s := t.value
	if t.key != "" {
		s = t.key + ":" + s
	}
	if t.not {
		s = "-" + s
	}
	return s
}

// sql returns the condition that a term is without its minus, false if the history has
// no column for it.
func (t term) sql() (string, bool) {
	switch t.key {
	case "port":
		return sqlNumber(t.value, "port", "local_port"), true
	case "ip":
		return sqlLike("ip", "", t.value), true
	case "agent", "host":
		return sqlHas(t.value, "agent"), true
	case "app":
		return sqlHas(t.value, "programname", "exe"), true
	case "org":
		return sqlHas(t.value, "orgname"), true
	case "as":
		return sqlASN(strings.TrimPrefix(t.value, "as")), true
	case "country":
		return sqlCountries(func(code, name string) bool {
			return strings.EqualFold(code, t.value) || len(t.value) > 2 && has(name, t.value)
		}), true
	case "rule":
		return sqlHas(t.value, "rule"), true
	case "proto":
		return "protocol = " + quote(t.value), true
	case "container":
		return sqlHas(t.value, "container"), true
	case "dir":
		return "direction = " + quote(t.value), true
	case "":
		s := sqlHas(t.value, "ip", "port", "programname", "agent", "orgname", "rule", "exe", "container")
		if strings.ContainsAny(t.value, "[]:") {
			s = sqlHas(t.value, "iif(ip LIKE '%:%', '[' || ip || ']', ip) || ':' || port", "programname", "agent", "orgname", "rule", "exe", "container")
		}
		if c := sqlCountries(func(_, name string) bool { return has(name, t.value) }); c != "FALSE" {
			s += "\n    OR " + c
		}
		return s, true
	}
	return "", false // city and state
}

// sqlNumber says that one of some columns is a number.
func sqlNumber(value string, columns ...string) string {
	n, ok := number(value)
	if !ok {
		return "FALSE"
	}
	for i, c := range columns {
		if n == 0 {
			c = "ifnull(" + c + ", 0)"
		}
		columns[i] = c + " = " + value
	}
	return strings.Join(columns, " OR ")
}

func sqlASN(value string) string {
	switch n, ok := number(value); {
	case !ok:
		return "FALSE"
	case n == 0:
		return "ifnull(asn, '') IN ('', 'AS0')"
	}
	return "asn = 'AS" + value + "'"
}

// number reads a number that is written without leading zeros.
func number(value string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(value, 10, 32)
	return n, err == nil && strconv.FormatUint(n, 10) == value
}

// sqlHas says that one of some columns contains a text, whatever its capitals.
func sqlHas(lower string, columns ...string) string {
	for i, c := range columns {
		if len(lower) == utf8.RuneCountInString(lower) {
			columns[i] = sqlLike(c, "%", lower)
		} else {
			// LIKE knows the capitals of ASCII alone.
			columns[i] = c + " REGEXP " + quote("(?i)"+regexp.QuoteMeta(lower))
		}
	}
	if len(columns) > 2 {
		return strings.Join(columns, "\n    OR ")
	}
	return strings.Join(columns, " OR ")
}

// sqlLike says that a column has a text after what LIKE takes before.
func sqlLike(column, before, text string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(text)
	s := column + " LIKE " + quote(before+escaped+"%")
	if escaped != text {
		s += ` ESCAPE '\'`
	}
	return s
}

// sqlCountries says that the country is one of those that fit.
func sqlCountries(fits func(code, name string) bool) string {
	var codes []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string([]rune{a, b})
			if fits(code, geoip.CountryName(code)) {
				codes = append(codes, quote(code))
			}
		}
	}
	if codes == nil {
		return "FALSE"
	}
	return "country IN (" + strings.Join(codes, ", ") + ")"
}

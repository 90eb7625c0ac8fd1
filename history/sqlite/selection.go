package sqlite

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/connmapgo/connmap/history"
)

// FirstQuery is an example to start with.
const FirstQuery = "SELECT " + shownColumns + "\nFROM detailed_history ORDER BY timestamp DESC LIMIT 500"

const (
	shownColumns = "timestamp, ip, peer_name, port, programname, orgname, country, agent, rule, count"
	ruledColumns = "timestamp, ip, peer_name, port, programname, agent, orgname, country, count"
)

// SQL returns a question for the console that finds the connections of a selection, the
// newest first. Those of a circle or a prefix are 10,000 at most, without terms 500 at most, and
// those of a rule are of the last week. A comment names terms that are left out because the
// history does not store what they are about.
func SQL(s history.Selection) string {
	switch {
	case s.Near != history.Circle{}:
		return nearbySQL(s.Near.Lat, s.Near.Lon, s.Near.Km, maxSelected)
	case s.Within.IsValid():
		return withinSQL(s.Within, maxSelected)
	case s.Terms != nil:
		return termsSQL(s.Terms)
	case s.Nowhere:
		return "SELECT " + shownColumns + "\nFROM detailed_history\nWHERE lat IS NULL\nORDER BY timestamp DESC LIMIT 500"
	case s.Rule != "":
		return "SELECT " + ruledColumns + "\nFROM detailed_history\nWHERE rule = " + quote(s.Rule) +
			" AND timestamp >= unixepoch('now', '-7 days')\nORDER BY timestamp DESC LIMIT 500"
	}
	return "SELECT " + ruledColumns + "\nFROM detailed_history\nORDER BY timestamp DESC LIMIT 500"
}

const maxSelected = 10_000

func termsSQL(terms []history.Term) string {
	var left, conditions []string
	for _, t := range terms {
		c, ok := condition(t)
		switch {
		case !ok:
			left = append(left, t.String())
		case t.Not:
			// NULL does not match the term, so that its negation must find it.
			conditions = append(conditions, "("+c+") IS NOT TRUE")
		default:
			conditions = append(conditions, "("+c+")")
		}
	}
	s := ""
	if left != nil {
		s = "-- left out, for the history does not have it: " + strings.Join(left, " ") + "\n"
	}
	s += "SELECT " + shownColumns + "\nFROM detailed_history\n"
	if conditions != nil {
		s += "WHERE " + strings.Join(conditions, "\n  AND ") + "\n"
	}
	return s + "ORDER BY timestamp DESC"
}

// condition returns the SQL condition of a term without its Not. It is false if the history has
// no column for it.
func condition(t history.Term) (string, bool) {
	switch t.Key {
	case "port":
		return sqlNumber(t.Value, "port", "local_port"), true
	case "ip":
		return sqlLike("ip", "", t.Value, "%"), true
	case "agent", "host":
		return sqlHas(t.Value, "agent"), true
	case "name":
		return sqlName(t.Value), true
	case "app":
		return sqlHas(t.Value, "programname", "exe"), true
	case "org":
		return sqlHas(t.Value, "orgname"), true
	case "as":
		return sqlASN(strings.TrimPrefix(t.Value, "as")), true
	case "country":
		return sqlCountries(t.Countries), true
	case "rule":
		return sqlHas(t.Value, "rule"), true
	case "proto":
		return "protocol = " + quote(t.Value), true
	case "container":
		return sqlHas(t.Value, "container"), true
	case "dir":
		return "direction = " + quote(t.Value), true
	case "":
		s := sqlHas(t.Value, "ip", "port", "programname", "agent", "orgname", "rule", "exe", "container", "peer_name")
		if strings.ContainsAny(t.Value, "[]:") {
			s = sqlHas(t.Value, "iif(ip LIKE '%:%', '[' || ip || ']', ip) || ':' || port", "programname", "agent", "orgname", "rule", "exe", "container", "peer_name")
		}
		if t.Countries != "" {
			s += "\n    OR " + sqlCountries(t.Countries)
		}
		return s, true
	}
	return "", false // city and state
}

// sqlName returns the condition on the name of the peer. Each name is looked at once.
func sqlName(value string) string {
	c := sqlHas(value, "name")
	if domain, ok := strings.CutPrefix(value, "*"); ok && strings.HasPrefix(domain, ".") {
		c = sqlLike("name", "%", domain, "")
	}
	return "peer_name IN (SELECT name FROM peer_names WHERE " + c + ")"
}

// sqlNumber returns the condition that one of several columns equals a number.
func sqlNumber(value string, columns ...string) string {
	n, ok := plainNumber(value)
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
	switch n, ok := plainNumber(value); {
	case !ok:
		return "FALSE"
	case n == 0:
		return "ifnull(asn, '') IN ('', 'AS0')"
	}
	return "asn = 'AS" + value + "'"
}

// plainNumber parses a number without leading zeros.
func plainNumber(value string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(value, 10, 32)
	return n, err == nil && strconv.FormatUint(n, 10) == value
}

// sqlHas returns the condition that one of several columns contains a text, ignoring case.
func sqlHas(lower string, columns ...string) string {
	for i, c := range columns {
		if len(lower) == utf8.RuneCountInString(lower) {
			columns[i] = sqlLike(c, "%", lower, "%")
		} else {
			// LIKE ignores case for ASCII only.
			columns[i] = c + " REGEXP " + quote("(?i)"+regexp.QuoteMeta(lower))
		}
	}
	if len(columns) > 2 {
		return strings.Join(columns, "\n    OR ")
	}
	return strings.Join(columns, " OR ")
}

// sqlLike says that a column has a text between what LIKE takes before and after it.
func sqlLike(column, before, text, after string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(text)
	s := column + " LIKE " + quote(before+escaped+after)
	if escaped != text {
		s += ` ESCAPE '\'`
	}
	return s
}

// sqlCountries says that the country is one of some, whose codes have spaces between.
func sqlCountries(codes string) string {
	if codes == "" {
		return "FALSE"
	}
	var list []string
	for code := range strings.FieldsSeq(codes) {
		list = append(list, quote(code))
	}
	return "country IN (" + strings.Join(list, ", ") + ")"
}

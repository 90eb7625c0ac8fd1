package sqlite

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Times are stored as Unix seconds: timestamp as an integer, the others with a
// fraction of microseconds, so that SQLite compares all of them as numbers.

// wholeSeconds returns a time in whole seconds.
func wholeSeconds(t time.Time) int64 { return inRange(t).Unix() }

// seconds returns a time in seconds, to the microsecond.
func seconds(t time.Time) float64 { return float64(micro(t)) / 1e6 }

// atSeconds returns the time of a number of seconds.
func atSeconds(s float64) time.Time { return time.UnixMicro(fromSeconds(s)).UTC() }

func fromSeconds(s float64) (micro int64) {
	return int64(math.Round(max(minSeconds, min(s, maxSeconds)) * 1e6))
}

func micro(t time.Time) int64 { return inRange(t).UnixMicro() }

// The years 0 to 9999 are all that SQLite's date functions know.
var (
	minTime    = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime    = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
	minSeconds = float64(minTime.UnixMilli()) / 1000
	maxSeconds = float64(maxTime.UnixMilli()) / 1000
)

func inRange(t time.Time) time.Time {
	switch y := t.UTC().Year(); {
	case y < 0:
		return minTime
	case y > 9999:
		return maxTime
	}
	return t.UTC()
}

// dateLike matches a date and time such as '2026-07-01 12:00:00.000+00:00', or its first parts.
var dateLike = regexp.MustCompile(`^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d(?:\.\d{1,9})?))?)?(?: ?(Z|[+-]\d\d:\d\d))?)?)?)?$`)

// parseDate returns the first moment of what a text names, in UTC unless it says
// otherwise.
func parseDate(s string) (t time.Time, ok bool) {
	m := dateLike.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return t, false
	}
	part := func(i, otherwise int) int {
		if m[i] == "" {
			return otherwise
		}
		n, _ := strconv.Atoi(m[i])
		return n
	}
	second, _ := strconv.ParseFloat(m[6], 64)
	t = time.Date(part(1, 0), time.Month(part(2, 1)), part(3, 1), part(4, 0), part(5, 0), 0, 0, time.UTC)
	if int(t.Month()) != part(2, 1) || t.Day() != part(3, 1) || part(5, 0) > 59 || second >= 61 {
		return t, false
	}
	t = t.Add(time.Duration(math.Round(second*1000)) * time.Millisecond)
	if zone := m[7]; zone != "" && zone != "Z" {
		h, _ := strconv.Atoi(zone[1:3])
		min, _ := strconv.Atoi(zone[4:])
		shift := time.Duration(h)*time.Hour + time.Duration(min)*time.Minute
		if zone[0] == '-' {
			shift = -shift
		}
		t = t.Add(-shift)
	}
	return t, true
}

// timeValue converts a value that a time is compared with: a number, or a text with a number or
// a date.
func timeValue(v sqlite.Value) (sqlite.Value, error) {
	if v.Type() == sqlite.TypeInteger || v.Type() == sqlite.TypeFloat {
		return v, nil
	}
	s := strings.TrimSpace(v.Text())
	if t, ok := parseDate(s); ok {
		return numeric(float64(t.UnixMilli()) / 1000), nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
		return numeric(n), nil
	}
	return sqlite.Value{}, fmt.Errorf("%.40q is no time: write Unix seconds, as by unixepoch('2026-01-01') or unixepoch('now', '-1 day'), or a date such as '2026-01-01 12:00', which is UTC", s)
}

func numeric(n float64) sqlite.Value {
	if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
		return sqlite.IntegerValue(int64(n))
	}
	return sqlite.FloatValue(n)
}

// bindSeconds sets a parameter to Unix seconds.
func bindSeconds(stmt *sqlite.Stmt, i int, t time.Time) {
	if us := micro(t); us%1e6 == 0 {
		stmt.BindInt64(i, us/1e6)
	} else {
		stmt.BindFloat(i, float64(us)/1e6)
	}
}

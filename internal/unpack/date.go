package unpack

import (
	"path/filepath"
	"strings"
	"time"
)

// Date returns the date in the name of a file, as in dbip-city-lite-2026-01.csv.gz or
// 20260101.as-org2info.txt, or else when it was modified: copies have a new time, but the old
// name. A date in the future does not count; zero: none counts.
func Date(name string, modified time.Time) time.Time {
	for _, d := range []time.Time{dateIn(name), modified} {
		if !d.IsZero() && Plausible(d) {
			return d
		}
	}
	return time.Time{}
}

// FutureDate returns the date of a file that does not count since it is in the future; zero: none.
func FutureDate(name string, modified time.Time) time.Time {
	for _, d := range []time.Time{dateIn(name), modified} {
		if !d.IsZero() {
			if Plausible(d) {
				break
			}
			return d
		}
	}
	return time.Time{}
}

// FutureRemark says that a date does not count.
func FutureRemark(date time.Time) string {
	return "its date " + date.UTC().Format(time.DateOnly) + " is in the future, so it does not count"
}

// dateIn returns the date in a name; zero: it has none.
func dateIn(name string) time.Time {
	other := func(r rune) bool { return (r < '0' || r > '9') && r != '-' }
	for _, part := range strings.FieldsFunc(filepath.Base(name), other) {
		for part = strings.Trim(part, "-"); part != ""; _, part, _ = strings.Cut(part, "-") {
			for _, layout := range []string{"2006-01-02", "2006-01", "20060102", "200601"} {
				n := len(layout)
				// A time may follow a date, but after a year and a month with a hyphen a bad day would.
				if len(part) < n || len(part) > n && (part[n] != '-' || layout == "2006-01") {
					continue
				}
				// Larger numbers are of something else.
				if d, err := time.Parse(layout, part[:n]); err == nil && d.Year() >= 2000 && d.Year() < 2100 {
					return d
				}
			}
		}
	}
	return time.Time{}
}

// Plausible reports whether data can be of a date: it is not in the future, but for clocks that differ.
func Plausible(date time.Time) bool { return date.Before(time.Now().AddDate(0, 0, 2)) }

package unpack

import (
	"path/filepath"
	"strings"
	"time"
)

// Date returns the date in the name of a file, as in dbip-city-lite-2026-01.csv.gz or
// 20260101.as-org2info.txt, or else when it was modified: copies have a new time, but the old name.
func Date(name string, modified time.Time) time.Time {
	other := func(r rune) bool { return (r < '0' || r > '9') && r != '-' }
	for _, part := range strings.FieldsFunc(filepath.Base(name), other) {
		for part = strings.Trim(part, "-"); part != ""; _, part, _ = strings.Cut(part, "-") {
			for _, layout := range []string{"2006-01-02", "2006-01", "20060102", "200601"} {
				n := len(layout)
				// A time may follow a date, but after a year and a month with a hyphen a bad day would.
				if len(part) < n || len(part) > n && (part[n] != '-' || layout == "2006-01") {
					continue
				}
				d, err := time.Parse(layout, part[:n])
				if err == nil && d.Year() >= 2000 && !d.After(time.Now()) {
					return d
				}
			}
		}
	}
	return modified
}

// Plausible reports whether data can be of a date: it is not in the future, but for clocks that differ.
func Plausible(date time.Time) bool { return date.Before(time.Now().AddDate(0, 0, 2)) }

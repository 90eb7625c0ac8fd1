package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/history"
)

// parseRetention parses the value of -keep.
func parseRetention(s string) (r history.Retention, err error) {
	if s == "all" {
		return r, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		part, names := strings.CutPrefix(part, "names:")
		number := strings.TrimRight(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
		n, err := strconv.ParseInt(number, 10, 64)
		limit := int64(1 << 50)
		unit := strings.ToUpper(strings.TrimSpace(part[len(number):]))
		switch unit {
		case "H", "D":
			limit = 100_000
		}
		if err != nil || n < 1 || n > limit {
			return r, fmt.Errorf("-keep: expected all, or an age such as 90d, a size such as 4GB, a number of rows such as 5000000 and an age of names such as names:30d, separated by commas, found %q", s)
		}
		switch unit {
		case "H", "D":
			age := time.Duration(n) * time.Hour
			if unit == "D" {
				age *= 24
			}
			if names {
				r.Names = age
			} else {
				r.Age = age
			}
			continue
		}
		if names {
			return r, fmt.Errorf("-keep: expected an age such as names:30d, found %q", part)
		}
		switch unit {
		case "":
			r.Rows = n
		case "MB":
			r.Bytes = min(n, 1<<40) * 1e6
		case "GB":
			r.Bytes = min(n, 1<<30) * 1e9
		case "TB":
			r.Bytes = min(n, 1<<20) * 1e12
		default:
			return r, fmt.Errorf("-keep: expected h, d, MB, GB, TB or nothing after a number, found %q", part)
		}
	}
	return r, nil
}

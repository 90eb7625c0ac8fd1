package unpack

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDate(t *testing.T) {
	modified := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, want := range map[string]string{
		"/data/dbip-city-lite-2024-01.csv.gz": "2024-01-01",
		"20250401.as-org2info.txt":            "2025-04-01",
		"/2020-01-01/table.csv":               "2026-03-04",
		"rib.20260115.0600.bz2":               "2026-01-15",
		"GeoLite2-City.mmdb":                  "2026-03-04",
		"ip2asn-120240101.tsv":                "2026-03-04",
		"x-2025-02-31.csv":                    "2026-03-04",
		"db11-2024-05-06.csv":                 "2024-05-06",
		"x-2999-01.csv":                       "2026-03-04",
		"202513.csv":                          "2026-03-04",
		"routeviews-rv2-20150101-1200.pfx2as": "2015-01-01",
		"rib-2015-01-02-0600.bz2":             "2015-01-02",
		"x-20150101a.csv":                     "2015-01-01",
	} {
		assert.Equal(t, want, Date(name, modified).Format(time.DateOnly), name)
	}
}

// TestFutureDate: a date in the future counts neither in a name nor as that of a file.
func TestFutureDate(t *testing.T) {
	past, future := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC), time.Now().AddDate(3, 0, 0)
	named := "x-" + future.Format("2006-01") + ".csv"
	for _, tt := range []struct {
		name     string
		modified time.Time
		counts   bool
		tells    bool
	}{{"x.csv", past, true, false}, {"x.csv", future, false, true}, {named, past, true, true}, {named, future, false, true}, {"x-2025-01.csv", future, true, false}} {
		assert.Equal(t, tt.counts, !Date(tt.name, tt.modified).IsZero(), "%+v", tt)
		assert.Equal(t, tt.tells, !FutureDate(tt.name, tt.modified).IsZero(), "%+v", tt)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/asn"
	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/internal/numbers"
)

// The tables that connmap-data downloads, the best first, and those of connmapperl.
var (
	geoFiles = []string{"GeoLite2-City.mmdb", "dbip-city-lite.csv.gz", "ipv4.csv"}
	asnFiles = []string{"GeoLite2-ASN.mmdb", "ip2asn-combined.tsv.gz", "GeoLite2-ASN-Blocks-IPv4.csv"}
)

// downloaded returns the first of the files that is in the data folder, or "".
func (c config) downloaded(names []string) string {
	for _, name := range names {
		name = filepath.Join(c.dataDir, name)
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return ""
}

// openTables opens the tables that are named or were downloaded. The embedded
// ones fill their gaps.
func (a *app) openTables() {
	m := a.monitor
	m.Source = live.Source{Name: "embedded", Date: geoembedded.DB().Info().Date, CountryLevel: true}
	if name := a.cfg.geo; name != "" {
		db, err := geoip.OpenCached(a.cfg.cacheDir, progress(os.Stderr, filepath.Base(name)), name)
		switch {
		case errors.Is(err, geoip.ErrNotCached):
			a.log.Warn("the next start will take as long as this one", "error", err)
		case err != nil:
			a.problem("geo", fmt.Errorf("%w; the embedded countries are used instead", err))
		}
		if db != nil {
			m.Geo = append(m.Geo, db)
			info := db.Info()
			m.Source = live.Source{Name: name, Date: info.Date, CountryLevel: info.CountryLevel}
			a.geo = db
		}
	}
	m.Geo = append(m.Geo, geoembedded.DB())
	m.Names = live.Source{Name: "embedded", Date: asnembedded.DB().Info().Date}
	if name := a.cfg.asn; name != "" {
		if db, err := asn.Open(name); err != nil {
			a.problem("asn", fmt.Errorf("%w; the embedded table is used instead", err))
		} else {
			m.ASN = append(m.ASN, db)
			m.Names = live.Source{Name: name, Date: db.Info().Date}
		}
	}
	m.ASN = append(m.ASN, asnembedded.DB())
}

// tableEvery is how often a table in use is looked after, and the least time between two
// attempts to compile it anew.
const tableEvery = 5 * time.Second

// watchTable verifies the table of places, and puts another in its place when it is damaged
// or somebody cuts its file or writes into it, until ctx ends. Meanwhile the table inside
// answers for the addresses that it no longer knows.
func (a *app) watchTable(ctx context.Context, every time.Duration) {
	db, seen := a.geo, time.Now()
	fault := db.Verify()
	if err := db.Err(); err != nil {
		fault = err // which says more
	}
	tried := "" // the source when it could not be compiled
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if fault == nil {
			seen = time.Now()
		} else if source := fileState(a.cfg.geo); source != tried {
			fresh, err := a.compileAnew(db)
			if err != nil {
				tried = source
				a.problem("geo", fmt.Errorf("%w; it cannot be compiled anew (%w), so that places are those of countries until %s can be read", fault, err, a.cfg.geo))
			} else {
				moved := a.monitor.ReplaceGeo(db, fresh)
				a.problem("geo", fmt.Errorf("%w; it was compiled anew: %s open then moved to a better place, what ended within %s may be recorded with its country only",
					fault, numbers.Count(moved, "connection", "connections"), time.Since(seen).Round(time.Second)))
				db, tried = fresh, ""
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		fault = db.Err()
	}
}

// compileAnew opens the table again, whose file is removed first unless it is whole.
func (a *app) compileAnew(old *geoip.DB) (*geoip.DB, error) {
	old.Verify()
	for range 2 { // what was written there may be damaged
		db, err := geoip.OpenCached(a.cfg.cacheDir, nil, a.cfg.geo)
		if db == nil {
			return nil, err
		}
		if db.Verify() == nil {
			return db, nil
		}
	}
	return geoip.Open(a.cfg.geo)
}

// fileState differs when a file has changed.
func fileState(name string) string {
	info, err := os.Stat(name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

// progress returns what shows on a terminal how much of a file has been read, if
// that takes longer than a second.
func progress(w io.Writer, name string) func(done, size int64) {
	if !isTerminal(w) {
		return nil
	}
	begin, drawn := time.Now(), time.Time{}
	return func(done, size int64) {
		now := time.Now()
		switch {
		case now.Sub(begin) < time.Second:
		case done >= size && !drawn.IsZero():
			fmt.Fprint(w, "\r\x1b[K")
		case now.Sub(drawn) > 100*time.Millisecond:
			drawn = now
			fmt.Fprintf(w, "\r\x1b[Kreading %s, once: %d %%", name, 100*done/max(1, size))
		}
	}
}

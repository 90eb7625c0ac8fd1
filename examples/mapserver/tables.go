package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/connmapgo/connmap/asn"
	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/asn/whois"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/internal/numbers"
)

// tables returns the files of places and of networks, best first: those that are named, else
// those in the data folder, whatever they are called.
func (c config) tables(warn func(string)) (geo, asn []string) {
	found := whois.Find(c.dataDir, warn)
	if geo = c.geo; len(geo) == 0 {
		geo = found.Places
	}
	if asn = c.asn; len(asn) == 0 {
		asn = found.Networks
	}
	return geo, asn
}

// A table is what is compiled from a file and mapped: *geoip.DB or *asn.DB.
type table interface {
	comparable
	Verify() error
	Err() error
	Remarks() []string
}

// A source is a file of which a table is made.
type source[T table] struct {
	app        *app
	key, name  string // of its problems; of the file
	open       func(names ...string) (T, error)
	openCached func(folder string, progress func(done, size int64), names ...string) (T, error)
	replace    func(old, fresh T) (changed int) // in the monitor
	fallback   string                           // what is used without the table
	changed    string                           // by replace
}

// openTables opens the tables. The embedded ones fill their gaps.
func (a *app) openTables() {
	m := a.monitor
	m.NAT64 = a.cfg.nat64
	var left []string
	geo, networks := a.cfg.tables(func(warning string) { left = append(left, warning) })
	if len(left) > 0 {
		a.problem("data", fmt.Errorf("the data folder: %s", strings.Join(left, "\n")))
	}
	for _, name := range geo {
		s := source[*geoip.DB]{a, "geo " + name, name, geoip.Open, geoip.OpenCached, m.ReplaceGeo, "other tables are", "place"}
		if db := s.start(); db != nil {
			m.Geo = append(m.Geo, db)
		}
	}
	m.Geo.Sort()
	if len(a.cfg.geo) > 0 {
		m.Geo = append(m.Geo, geoembedded.DB()) // what is named comes first, whatever it is
	} else {
		m.Geo = m.Geo.WithDefault(geoembedded.DB())
	}
	for _, name := range networks {
		s := source[*asn.DB]{a, "asn " + name, name, asn.Open, asn.OpenCached, m.ReplaceASN, "other tables are", "network"}
		if db := s.start(); db != nil {
			m.ASN = append(m.ASN, db)
		}
	}
	slices.SortStableFunc(m.ASN, func(a, b *asn.DB) int { return b.Info().Date.Compare(a.Info().Date) })
	m.ASN = append(m.ASN, asnembedded.DB())
}

// start opens the table and has watchTables watch it. It returns nil if the file cannot be read.
func (s source[T]) start() T {
	db, err := s.openCached(s.app.cfg.cacheDir, progress(os.Stderr, filepath.Base(s.name)), s.name)
	var none T
	switch {
	case db == none:
		s.app.problem(s.key, fmt.Errorf("%w; %s used instead", err, s.fallback))
		return none
	case err != nil:
		s.app.log.Warn("the next start will take as long as this one", "error", err)
	}
	if remarks := db.Remarks(); len(remarks) > 0 {
		s.app.problem(s.key, fmt.Errorf("%s: %s", s.name, strings.Join(remarks, "; ")))
	}
	s.app.watches = append(s.app.watches, func(ctx context.Context, every time.Duration) { s.watch(ctx, every, db) })
	return db
}

// tableEvery is how often a table in use is checked, and the minimum time between two
// attempts to compile it again.
const tableEvery = 5 * time.Second

// watchTables watches the tables of files, each in a goroutine of its own, until ctx ends.
func (a *app) watchTables(ctx context.Context, every time.Duration) {
	for _, watch := range a.watches {
		a.work.Go(func() { watch(ctx, every) })
	}
}

// watch verifies a table, and replaces it when it is damaged or somebody truncates its file
// or writes into it, until ctx ends. Until then the embedded table answers for addresses in
// damaged parts.
func (s source[T]) watch(ctx context.Context, every time.Duration, db T) {
	intactAt := time.Now()
	fault := db.Verify()
	if err := db.Err(); err != nil {
		fault = err // which says more
	}
	failed := "" // state of the file that could not be compiled
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if fault == nil {
			intactAt = time.Now()
		} else if state := fileState(s.name); state != failed {
			fresh, err := s.compile(db)
			if err != nil {
				failed = state
				s.app.problem(s.key, fmt.Errorf("%w; it cannot be compiled again (%w): %s used until %s can be read", fault, err, s.fallback, s.name))
			} else {
				changed := s.replace(db, fresh)
				s.app.problem(s.key, fmt.Errorf("%w; it was compiled again, and %s got another %s; what closed in the %s before may be recorded with a less exact %[3]s",
					fault, numbers.Count(changed, "open connection", "open connections"), s.changed, time.Since(intactAt).Round(time.Second)))
				db, failed = fresh, ""
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

// compile opens the table again, whose cached file is removed first if it is damaged.
func (s source[T]) compile(old T) (db T, err error) {
	old.Verify()
	var none T
	for range 2 { // what was written there may be damaged
		if db, err = s.openCached(s.app.cfg.cacheDir, nil, s.name); db == none {
			return none, err
		}
		if db.Verify() == nil {
			return db, nil
		}
	}
	return s.open(s.name)
}

// fileState differs when a file has changed.
func fileState(name string) string {
	info, err := os.Stat(name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

// progress returns a function that shows on a terminal how much of a file has been read, if it
// takes longer than a second. It returns nil if w is no terminal.
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
			fmt.Fprintf(w, "\r\x1b[Kreading %s (only the first time): %d %%", name, 100*done/max(1, size))
		}
	}
}

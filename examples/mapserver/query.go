package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// A question has the settings of -query and the flags that belong to it.
type question struct {
	sql, format, times string
	params             params
	raw                bool
	timeout            time.Duration // negative: none
}

// exportTimeout is the default maximum time of a result that is written row by row.
const exportTimeout = 10 * time.Minute

// params are the values of -param, by name.
type params map[string]any

func (p params) String() string { return "" }

func (p params) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if name = strings.TrimPrefix(name, ":"); !ok || name == "" {
		return fmt.Errorf("expected NAME=VALUE, found %q", s)
	}
	p[name] = value
	// Numbers must be numbers to be compared as such.
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		p[name] = n
	} else if f, err := strconv.ParseFloat(value, 64); err == nil && strings.Trim(value, "-.0123456789") == "" {
		p[name] = f // but inf and 0x1p2 may be names of programs
	}
	return nil
}

// query runs a query on the history file, also while a server records into it.
func query(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	q := cfg.question
	if q.sql == "list" {
		return listQueries(stdout)
	}
	w, err := history.NewRowWriter(q.format, q.times, stdout)
	if err != nil {
		return fmt.Errorf("-format and -times: %s", strings.TrimPrefix(err.Error(), "history: "))
	}
	if cfg.history == "" {
		return errors.New("-query needs a history: name its file with -history FILE")
	}
	if name, ok := strings.CutPrefix(q.sql, "@"); ok {
		saved, err := savedQuery(name)
		if err != nil {
			return err
		}
		q.sql = saved.SQL
		for k, v := range saved.Params {
			if _, ok := q.params[k]; !ok {
				q.params.Set(k + "=" + v)
			}
		}
	}
	rule := &queryRules{cfg: cfg}
	c, err := sqlite.OpenConsole(ctx, cfg.history, consoleOptions(cfg, rule, stderr))
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	defer c.Close()
	ask := history.Question{SQL: q.sql, Params: q.params, Timeout: q.timeout, MaxRows: -1, MaxBytes: -1}
	if q.format == "table" {
		// A table is written at the end, and must fit in memory.
		ask = history.Question{SQL: q.sql, Params: q.params, Timeout: q.timeout}
	}
	cut, err := c.Each(ctx, ask, w.Begin, func(row []any) error {
		if rule.err != nil {
			return rule.err
		}
		return w.Row(row)
	})
	if mistake := (*history.QueryError)(nil); errors.As(err, &mistake) {
		if strings.HasPrefix(mistake.Msg, "stopped after") {
			return fmt.Errorf("%s, or allow more time with -timeout", mistake.Msg)
		}
		return errors.New(mistake.Msg + caret(q.sql, mistake.Offset))
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if rule.err != nil {
		return rule.err
	}
	if err := w.End(); err != nil {
		return err
	}
	if rule.warning != "" {
		fmt.Fprintln(stderr, "mapserver:", rule.warning)
	}
	if cut != "" {
		fmt.Fprintf(stderr, "mapserver: %s; -format csv and json have them all\n", cut)
	}
	return nil
}

func listQueries(out io.Writer) error {
	for _, q := range sqlite.SavedQueries() {
		if _, err := fmt.Fprintf(out, "@%-14s %s%s\n", q.Name, q.About, defaults(q)); err != nil {
			return err
		}
	}
	return nil
}

// defaults lists the parameters of a saved query with their values.
func defaults(q history.SavedQuery) string {
	s := ""
	for _, name := range []string{"since", "program", "prefix", "lat", "lon", "km"} {
		if v, ok := q.Params[name]; ok {
			s += fmt.Sprintf(", %s=%s", name, v)
		}
	}
	if s == "" {
		return ""
	}
	return " (" + s[2:] + ")"
}

func savedQuery(name string) (history.SavedQuery, error) {
	for _, q := range sqlite.SavedQueries() {
		if q.Name == name {
			return q, nil
		}
	}
	return history.SavedQuery{}, fmt.Errorf("there is no saved query %q; mapserver -query list shows all", name)
}

var errInterrupted = errors.New("interrupted")

// consoleOptions returns how to open a history for queries. A history of connmapperl is copied
// into the cache, with the columns that it lacks.
func consoleOptions(cfg config, rule *queryRules, stderr io.Writer) sqlite.ConsoleOptions {
	// Only a copy needs the tables.
	var fill func(*history.Entry)
	reportedAt := time.Time{}
	o := sqlite.ConsoleOptions{
		Rule: rule.label,
		Complete: func(e *history.Entry) {
			if fill == nil {
				fill = complete(rule.rules(), locator(cfg))
				if rule.err != nil {
					fmt.Fprintf(stderr, "mapserver: %v; the copy gets the default rules\n", rule.err)
					rule.err = nil // the query may not need rules
				}
			}
			fill(e)
		},
		Progress: func(done, total int64) {
			switch {
			case reportedAt.IsZero() && done >= total:
			case reportedAt.IsZero():
				fmt.Fprintf(stderr, "mapserver: %s has an older format: it is copied with indexes, and the copy is kept for later queries\n", cfg.history)
				reportedAt = time.Now()
			case done >= total, time.Since(reportedAt) > time.Second:
				fmt.Fprintf(stderr, "mapserver: %d of %d rows are copied\n", done, total)
				reportedAt = time.Now()
			}
		},
		Cache: cfg.cacheDir,
	}
	rules, _ := cfg.findRules()
	geo, _ := cfg.tables(func(string) {})
	for _, name := range append(geo, rules) {
		if info, err := os.Stat(name); err == nil {
			o.CacheKey += fmt.Sprintf("%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return o
}

// locator returns a look-up of places in the tables that can be opened, and the embedded one.
func locator(cfg config) func(netip.Addr) (geoip.Place, bool) {
	var tables geoip.Tables
	geo, _ := cfg.tables(func(string) {})
	for _, name := range geo {
		if db, _ := geoip.OpenCached(cfg.cacheDir, nil, name); db != nil {
			tables = append(tables, db)
		}
	}
	tables = append(tables, geoembedded.DB())
	return func(addr netip.Addr) (geoip.Place, bool) {
		p, by := tables.Lookup(cfg.nat64.Inner(addr))
		return p, by != nil
	}
}

// caret returns the line of an error in a query, with a mark below the error.
func caret(sql string, offset int) string {
	if offset < 0 || offset > len(sql) {
		return ""
	}
	start := strings.LastIndexByte(sql[:offset], '\n') + 1
	line, _, _ := strings.Cut(sql[start:], "\n")
	// Long lines are cut to the part around the error.
	at := offset - start
	if at > 60 {
		line, at = line[at-60:], 60
	}
	if len(line) > 100 {
		line = line[:100]
	}
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(s, "?"))
	}
	return "\n  " + clean(line) + "\n  " + strings.Repeat(" ", len([]rune(clean(line[:min(at, len(line))])))) + "^"
}

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

// A question is what -query and its companions ask.
type question struct {
	sql, format, times string
	params             params
	raw                bool
	timeout            time.Duration // negative: none
}

// exportTimeout is how long an answer may take that is written row by row.
const exportTimeout = 10 * time.Minute

// params are given as NAME=VALUE.
type params map[string]any

func (p params) String() string { return "" }

func (p params) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if name = strings.TrimPrefix(name, ":"); !ok || name == "" {
		return fmt.Errorf("want NAME=VALUE, found %q", s)
	}
	p[name] = value
	// Numbers are compared as such.
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		p[name] = n
	} else if f, err := strconv.ParseFloat(value, 64); err == nil && strings.Trim(value, "-.0123456789") == "" {
		p[name] = f // and not a program that is named inf or 0x1p2
	}
	return nil
}

// query answers a question from the history file, also while a server records
// into it.
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
		return errors.New("-query needs a history: name one with -history FILE")
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
		// It is written when all is there.
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
			return fmt.Errorf("%s, or give it longer with -timeout", mistake.Msg)
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

// defaults are the parameters of a saved query.
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
	return history.SavedQuery{}, fmt.Errorf("there is no saved query %q; mapserver -query list lists them", name)
}

var errInterrupted = errors.New("interrupted")

// consoleOptions has a history of connmapperl, if it is one, copied with what that does not
// store, and the copy kept for the next question.
func consoleOptions(cfg config, rule *queryRules, stderr io.Writer) sqlite.ConsoleOptions {
	// The tables are only opened for a copy.
	var fill func(*history.Entry)
	told := time.Time{}
	o := sqlite.ConsoleOptions{
		Rule: rule.label,
		Complete: func(e *history.Entry) {
			if fill == nil {
				fill = complete(rule.rules(), locator(cfg))
				if rule.err != nil {
					fmt.Fprintf(stderr, "mapserver: %v; the copy has the default rules\n", rule.err)
					rule.err = nil // the question may not ask for rules
				}
			}
			fill(e)
		},
		Progress: func(done, total int64) {
			switch {
			case told.IsZero() && done >= total:
			case told.IsZero():
				fmt.Fprintf(stderr, "mapserver: %s has not been taken over: it is copied with indexes, which is kept for the next question\n", cfg.history)
				told = time.Now()
			case done >= total, time.Since(told) > time.Second:
				fmt.Fprintf(stderr, "mapserver: %d of %d rows are copied\n", done, total)
				told = time.Now()
			}
		},
		Cache: cfg.cacheDir,
	}
	rules, _ := cfg.findRules()
	for _, name := range []string{rules, cfg.geo} {
		if info, err := os.Stat(name); err == nil {
			o.CacheKey += fmt.Sprintf("%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return o
}

// locator finds places by the table that is named, if it can be opened, and the embedded
// one.
func locator(cfg config) func(netip.Addr) (geoip.Place, bool) {
	tables := []*geoip.DB{geoembedded.DB()}
	if cfg.geo != "" {
		if db, _ := geoip.OpenCached(cfg.cacheDir, nil, cfg.geo); db != nil {
			tables = append([]*geoip.DB{db}, tables...)
		}
	}
	return func(addr netip.Addr) (geoip.Place, bool) {
		for _, db := range tables {
			if p, ok := db.Lookup(addr); ok {
				return p, true
			}
		}
		return geoip.Place{}, false
	}
}

// caret shows the line of a mistake, and where in it that is.
func caret(sql string, offset int) string {
	if offset < 0 || offset > len(sql) {
		return ""
	}
	start := strings.LastIndexByte(sql[:offset], '\n') + 1
	line, _, _ := strings.Cut(sql[start:], "\n")
	// Long lines are cut about it.
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

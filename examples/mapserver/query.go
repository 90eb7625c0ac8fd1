package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/rules"
)

// A question is what -query and its companions ask.
type question struct {
	sql, format, times string
	params             params
}

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
	rule, err := ruleOf(cfg.rules)
	if err != nil {
		return err
	}
	c, err := history.OpenConsole(cfg.history, history.ConsoleOptions{Rule: rule})
	if err != nil {
		return err
	}
	ask := history.Question{SQL: q.sql, Params: q.params, Timeout: -1, MaxRows: -1, MaxBytes: -1}
	if q.format == "table" {
		// It is written when all is there.
		ask = history.Question{SQL: q.sql, Params: q.params, Timeout: time.Minute}
	}
	cut, err := c.Each(ctx, ask, w.Begin, w.Row)
	if mistake := (*history.QueryError)(nil); errors.As(err, &mistake) {
		return errors.New(mistake.Msg + caret(q.sql, mistake.Offset))
	}
	if err != nil {
		return err
	}
	if err := w.End(); err != nil {
		return err
	}
	if cut != "" {
		fmt.Fprintf(stderr, "mapserver: %s; -format csv and json have them all\n", cut)
	}
	return nil
}

func listQueries(out io.Writer) error {
	for _, q := range history.SavedQueries() {
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
	for _, q := range history.SavedQueries() {
		if q.Name == name {
			return q, nil
		}
	}
	return history.SavedQuery{}, fmt.Errorf("there is no saved query %q; mapserver -query list lists them", name)
}

// ruleOf returns the function that names the rule of a connection. Without the
// file the default rules hold.
func ruleOf(name string) (func(local, peer uint16, program, exe string) string, error) {
	set := rules.Default()
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		if set, err = rules.Parse(f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return func(local, peer uint16, program, exe string) string {
		r, _ := set.Match(rules.Conn{Local: local, Peer: peer, Comm: program, Exe: exe})
		return r.Label
	}, nil
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

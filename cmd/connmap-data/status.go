package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/asn/whois"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/terminal"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A state is a line of status: a data set or another file.
type state struct {
	Set         string     `json:"set,omitempty"` // empty: a file of the user
	File        string     `json:"file"`
	Kind        string     `json:"kind,omitempty"`
	Source      string     `json:"source,omitempty"`
	Date        *time.Time `json:"date,omitempty"`
	Rows        int64      `json:"rows"`
	Size        int64      `json:"size"`
	Licence     string     `json:"licence,omitempty"`
	Attribution string     `json:"attribution,omitempty"`
	Hint        string     `json:"hint,omitempty"`
	Missing     bool       `json:"missing,omitempty"`
}

// status lists the default data sets, the others that are in the data folder, and other data
// files there.
func (a *app) status(dir string) ([]state, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := map[string]bool{}
	for _, e := range entries {
		if !e.IsDir() {
			files[e.Name()] = true
		}
	}
	states := []state{}
	for _, s := range a.sets {
		if !files[s.file] && s.optIn && !files[s.file+".part"] {
			continue
		}
		st := state{Set: s.name, File: s.file, Source: s.url, Licence: s.licence, Attribution: s.attribution}
		name := filepath.Join(dir, s.file)
		rec := readRecord(name)
		if files[s.file] {
			st.describe(name, rec.File, a.now())
			switch {
			case st.Hint == "" && !s.matches(st.Kind):
				st.Hint = "not the expected kind of data"
			case a.old(st):
				st.add("old: connmap-data update " + s.name)
			case st.Hint == "" && a.stale(s, st.Date, rec.File):
				st.Hint = "update due"
			}
		} else {
			st.Missing = true
			st.Hint = "missing: connmap-data update " + s.name
		}
		if info, err := os.Stat(name + ".part"); err == nil {
			st.add(fmt.Sprintf("a download stopped at %s, update continues it", numbers.Bytes(info.Size())))
		}
		states = append(states, st)
		for _, suffix := range []string{"", ".part", ".meta", ".meta.new", ".new"} {
			delete(files, s.file+suffix)
		}
	}
	var others []state
	for file := range files {
		st := state{File: file}
		st.describe(filepath.Join(dir, file), nil, a.now())
		switch {
		case st.Kind == "SQLite database", strings.HasPrefix(file, "history.sqlite"), strings.HasPrefix(file, "."), st.Kind == "" && whois.IsOwn(file):
			// The map's history, its places, and notes on downloads are no data sets.
			continue
		case whois.IsOwn(file):
			st.Hint = "not read, since connmap's own files have such names: rename it"
		case a.old(st):
			st.add("old: connmap-data update downloads newer tables")
		}
		others = append(others, st)
	}
	slices.SortFunc(others, func(a, b state) int { return cmp.Compare(a.File, b.File) })
	return append(states, others...), nil
}

// statusOf says what files are.
func (a *app) statusOf(names []string) (states []state, err error) {
	for _, name := range names {
		st := state{File: name}
		st.describe(name, readRecord(name).File, a.now())
		if _, e := os.Stat(name); e != nil {
			err = errors.Join(err, e)
			continue
		}
		if a.old(st) {
			st.add("old")
		}
		states = append(states, st)
	}
	return states, err
}

// describe fills in a state from the record of a file that has the recorded content, or else, also
// if an older version recorded a date in the future, by reading the file.
func (st *state) describe(name string, known *revision, now time.Time) {
	info, err := os.Stat(name)
	if err != nil {
		st.Hint = err.Error()
		return
	}
	st.Size = info.Size()
	if known != nil {
		st.Source = known.URL
	}
	same := known != nil && known.describes(name)
	if same && known.Date.Sub(now) <= maxAhead {
		st.Kind, st.Rows = known.Kind, known.Rows
		st.Hint = strings.Join(known.Remarks, "; ")
		if !known.Date.IsZero() {
			st.Date = &known.Date
		}
		return
	}
	c, err := inspect(name, unpackedLimit, now)
	if err == nil {
		err = c.cutOff()
	}
	if err == nil && !c.places && !c.networks {
		err = c.open(name)
	}
	if known != nil && known.SHA256 != "" && !same {
		c.remarks = append(c.remarks, "damaged: it has changed since it was downloaded")
	}
	c.setDate(now, unpack.FutureDate(name, info.ModTime()).UTC(), unpack.Date(name, info.ModTime()).UTC())
	st.Hint = strings.Join(c.remarks, "; ")
	if err != nil {
		st.Hint = err.Error()
	}
	if st.Kind, st.Rows = c.kind, c.rows; st.Kind == "" && err == nil {
		st.Hint = strings.TrimSuffix("not recognised: "+c.unknown, ": ")
	}
	if !c.date.IsZero() {
		st.Date = &c.date
	}
}

// open opens a file of delegations or of organisations as the programs do that use it, and adds
// what they would say of it. Of other files, which inspect has read as they do, it does nothing.
func (c *content) open(name string) error {
	kind, err := asn.Recognise(name)
	if err != nil {
		return err
	}
	switch kind {
	case asn.DelegationFile:
		d, err := asn.OpenDelegations(name)
		if err != nil {
			return bare(err, name)
		}
		for _, w := range d.Warnings() {
			c.remarks = append(c.remarks, strings.TrimPrefix(w, name+": "))
		}
	case asn.OrgFile:
		o, err := asn.OpenOrgs(name)
		if err != nil {
			return bare(err, name)
		}
		c.remarks = append(c.remarks, o.Remarks()...)
	default:
		return nil
	}
	c.kind = cmp.Or(c.kind, kind.String())
	return nil
}

// bare returns an error of package asn without the names of the package and the file.
func bare(err error, name string) error {
	return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "asn: "), name+": "))
}

// stale reports whether a newer file is likely. If the server had nothing newer, the answer is
// no for a day.
func (a *app) stale(s set, date *time.Time, known *revision) bool {
	if known != nil && a.now().Sub(known.Checked) < day {
		return false
	}
	return date == nil || a.now().Sub(*date) > s.stale
}

// maxAge is how old a table may be before status says so, whatever its server has: as old as
// places may be before the map's status line does.
const maxAge = 100 * day

// old reports whether a state is that of a table that is too old.
func (a *app) old(st state) bool {
	return st.Kind != "" && st.Date != nil && a.now().Sub(*st.Date) > maxAge
}

// add adds a hint to those that are there.
func (st *state) add(hint string) { st.Hint = strings.TrimPrefix(st.Hint+"; "+hint, "; ") }

func (a *app) printStatus(dir string, states []state) error {
	// Names and contents of files may have control characters.
	out := &terminal.Writer{W: a.stdout}
	if dir != "" {
		fmt.Fprintf(out, "%s\n\n", dir)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DATA SET\tFILE\tDATE\tAGE\tROWS\tSIZE\t")
	for _, st := range states {
		date, age := "", ""
		if st.Date != nil {
			date = dateOf(*st.Date)
			age = fmt.Sprintf("%d days", max(0, int(a.now().Sub(*st.Date)/day)))
		}
		rows, bytes := numbers.Thousands(st.Rows), numbers.Bytes(st.Size)
		if st.Missing {
			rows, bytes = "", ""
		}
		hint := st.Hint
		if st.Set == "" {
			hint = strings.Trim(st.Kind+"; "+hint, "; ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(st.Set, "(yours)"), cell(st.File), date, age, rows, bytes, cell(hint))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	heading := "\nSources, licences, and the attribution to show with the data:\n\n"
	for _, st := range states {
		if st.Set == "" || st.Missing {
			continue
		}
		fmt.Fprintf(out, "%s%s: %s\n  %s\n  %s\n", heading, st.Set, st.Licence, st.Source, st.Attribution)
		heading = ""
	}
	return nil
}

// cell returns a text for a cell of a table, which neither a line end nor a tab may break in two.
func cell(s string) string {
	return terminal.Mask(strings.NewReplacer("\r\n", "; ", "\n", "; ", "\t", " ").Replace(s), false)
}

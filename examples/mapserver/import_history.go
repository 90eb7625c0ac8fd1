package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/examples/mapserver/internal/storable"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/lock"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/terminal"
)

// history imports the detailed history: it migrates a copy.
func (im *importer) history(ctx context.Context) {
	if im.missing(perlHistory) {
		return
	}
	if f, err := im.open(perlHistory, maxFile); err != nil {
		im.fail(perlHistory, err)
		return
	} else {
		f.Close()
	}
	target := filepath.Join(im.data, "history.sqlite")
	rows, err := historyRows(ctx, target)
	switch {
	case err != nil:
		im.leave(perlHistory, "%s exists already and cannot be read (%v); move it away to import this one", target, err)
		return
	case rows > 0:
		im.leave(perlHistory, "%s has %s already; move it away to import this one, or query this one with -history", target, numbers.Count(int(rows), "row", "rows"))
		return
	}
	folder, unlock, err := importFolder(im.data)
	if err != nil {
		im.fail(perlHistory, err)
		return
	}
	defer os.RemoveAll(folder)
	defer unlock.Close() // first, since Windows removes no open file
	original, copied := filepath.Join(im.dir, perlHistory), filepath.Join(folder, "history.sqlite")
	if err := im.copyDatabase(ctx, copied); err != nil {
		im.fail(perlHistory, err)
		return
	}
	cfg := config{configDir: im.configDir, dataDir: im.data, cacheDir: filepath.Join(xdg.CacheHome, "connmap")}
	cfg.rules, _ = cfg.ownRules()
	reportedAt := time.Now()
	// No Logger: it would name the copy, which is temporary.
	db, err := sqlite.Open(ctx, copied, sqlite.Options{
		Complete: complete((&queryRules{cfg: cfg}).rules(), locator(cfg)),
		Progress: func(done, total int64) {
			if time.Since(reportedAt) > 2*time.Second {
				reportedAt = time.Now()
				im.log.Info("importing "+perlHistory, "rows", done, "of", total)
			}
		},
	})
	if err != nil {
		im.fail(perlHistory, errors.New(strings.ReplaceAll(err.Error(), copied, original)))
		return
	}
	stats, err := db.Stats()
	if p := db.Problem(); p != "" {
		err = fmt.Errorf("it is damaged, and nothing was imported; save the rows before the first and after the last damaged page with `sqlite3 %s .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 NEW`, put NEW in its place, and import again", terminal.Shell(original))
	}
	if err = errors.Join(err, db.Close()); err == nil {
		err = im.place(ctx, copied, target)
	}
	if err != nil {
		im.fail(perlHistory, err)
		return
	}
	im.take(perlHistory, "%s to %s", numbers.Count(int(stats.Rows), "connection", "connections"), target)
}

// importFolder makes a folder in another for an import, and locks it. It removes those of
// imports that were killed, which nobody has locked.
func importFolder(in string) (folder string, unlock io.Closer, err error) {
	const pattern = "import-"
	old, _ := filepath.Glob(filepath.Join(in, pattern+"*"))
	for _, name := range old {
		if _, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(name), pattern), 10, 64); err != nil {
			continue
		}
		if f, err := lock.TryFolder(name); err == nil {
			f.Close()
			os.RemoveAll(name)
		}
	}
	if folder, err = os.MkdirTemp(in, pattern); err != nil {
		return "", nil, err
	}
	unlock, err = lock.Folder(folder)
	return folder, unlock, err
}

// historyRows returns how many rows a history has, zero if there is no such file.
func historyRows(ctx context.Context, name string) (int64, error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	c, err := sqlite.OpenConsole(ctx, name, sqlite.ConsoleOptions{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	table, err := c.Ask(ctx, history.Question{SQL: "SELECT count(*) FROM detailed_history"})
	if err != nil {
		return 0, err
	}
	n, _ := table.Rows[0][0].(int64)
	return n, nil
}

// copyDatabase copies the database with SQLite's files beside it. It does not open the
// original, which could change it; so it repeats the copy if somebody else changes it meanwhile.
func (im *importer) copyDatabase(ctx context.Context, to string) error {
	suffixes := []string{"", "-wal", "-journal"}
	state := func() (s string) {
		for _, suffix := range suffixes {
			if info, err := os.Stat(filepath.Join(im.dir, perlHistory+suffix)); err == nil {
				s += fmt.Sprint(suffix, info.Size(), info.ModTime().UnixNano(), ";")
			}
		}
		return s
	}
	for range 5 {
		before := state()
		for _, suffix := range suffixes {
			os.Remove(to + suffix)
			if suffix != "" && im.missing(perlHistory+suffix) {
				continue
			}
			out, err := os.OpenFile(to+suffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			if err := errors.Join(im.copy(ctx, perlHistory+suffix, out), out.Close()); err != nil {
				return err
			}
		}
		if state() == before {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return errors.New("connmapperl writes into it: stop connmapperl and import again")
}

const maxFile = 1 << 40 // bytes

// copy writes a file of the folder into another.
func (im *importer) copy(ctx context.Context, name string, to *os.File) error {
	in, err := im.open(name, maxFile)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(to, stoppable{ctx, in})
	return errors.Join(err, to.Sync())
}

// A stoppable reads until ctx ends.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}

// place moves a history to where the server looks for it, if no other one is used there.
func (im *importer) place(ctx context.Context, from, target string) error {
	if _, err := os.Stat(target); err == nil {
		// It was empty. A server that has it open would go on in a file without a name.
		db, err := sqlite.Open(ctx, target, sqlite.Options{})
		if err != nil {
			return err
		}
		stats, err := db.Stats()
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
		if stats.Rows > 0 {
			return fmt.Errorf("a server has started to record into %s", target)
		}
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if _, err := os.Lstat(from + suffix); err == nil {
			return fmt.Errorf("another program has %s open", from)
		}
	}
	return os.Rename(from, target) // target does not exist, or is an empty history
}

// counts imports the counts of places. Of counts for the same place it keeps the larger one.
func (im *importer) counts(context.Context) {
	if im.missing(perlCounts) {
		return
	}
	b, err := im.read(perlCounts, storable.MaxBytes)
	if err != nil {
		im.fail(perlCounts, err)
		return
	}
	tree, err := storable.Read(b)
	var found []storable.Count
	skipped := 0
	if err == nil {
		found, skipped, err = storable.Counts(tree)
	}
	if err == nil && len(found) == 0 && skipped > 0 {
		err = errors.New("no counts of places are found in it, only other numbers")
	}
	if err != nil {
		im.fail(perlCounts, err)
		return
	}
	if len(found) == 0 {
		im.leave(perlCounts, "it is empty")
		return
	}
	target := filepath.Join(im.data, "places.txt")
	marks := map[[2]float64]int64{}
	old, err := history.LoadMarks(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		im.leave(perlCounts, "%s exists already and cannot be read (%v); move it away to import this one", target, err)
		return
	}
	for _, m := range old {
		marks[[2]float64{m.Lat, m.Lon}] = m.Count
	}
	changed := false
	for _, c := range found {
		at := [2]float64{c.Lat, c.Lon}
		if c.Count > marks[at] {
			marks[at], changed = c.Count, true
		}
	}
	if !changed {
		im.leave(perlCounts, "%s has all of its %s already", target, numbers.Count(len(found), "place", "places"))
		return
	}
	said, err := backUp(target)
	if err == nil {
		err = history.SaveMarks(target, sorted(marks))
	}
	if err != nil {
		im.fail(perlCounts, err)
		return
	}
	if skipped > 0 {
		said += fmt.Sprintf("; %s without a place left out", numbers.Count(skipped, "number", "numbers"))
	}
	im.take(perlCounts, "%s to %s, press l to load them%s", numbers.Count(len(found), "place", "places"), target, said)
}

// sorted yields places from south to north.
func sorted(marks map[[2]float64]int64) func(yield func(history.Mark, error) bool) {
	places := make([][2]float64, 0, len(marks))
	for at := range marks {
		places = append(places, at)
	}
	slices.SortFunc(places, func(a, b [2]float64) int { return slices.Compare(a[:], b[:]) })
	return func(yield func(history.Mark, error) bool) {
		for _, at := range places {
			if !yield(history.Mark{Lat: at[0], Lon: at[1], Count: marks[at]}, nil) {
				return
			}
		}
	}
}

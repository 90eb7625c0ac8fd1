package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/temp"
)

// readable returns the URI with which a file can be read even if it or its folder is read-only.
// remove, unless it is nil, removes temporary files.
func readable(ctx context.Context, path string) (uri string, remove func(), err error) {
	uri = fileURI(path, "mode=ro")
	err = probe(ctx, uri)
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly, sqlite.ResultCantOpen:
	case sqlite.ResultIOErr: // as where a full disk has no room for what is shared
	default:
		return uri, nil, err
	}
	// A killed process has left a transaction to roll back. Not in files of others.
	if ours(path) && probe(ctx, fileURI(path, "mode=rw")) == nil {
		return uri, nil, probe(ctx, uri)
	}
	logs := []string{"-wal", "-journal"}
	for _, suffix := range logs {
		if info, e := os.Stat(path + suffix); e != nil || info.Size() == 0 {
			continue
		}
		// The log counts too, and can only be read where it can be written.
		dir, err := os.MkdirTemp("", "connmap-history-")
		if err != nil {
			return "", nil, err
		}
		remove = func() { os.RemoveAll(dir) }
		to := filepath.Join(dir, "history.sqlite")
		err = copyFile(to, path)
		for _, suffix := range logs {
			if e := copyFile(to+suffix, path+suffix); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		if err == nil {
			err = probe(ctx, fileURI(to, "mode=rw"))
		}
		if err != nil {
			remove()
			return "", nil, err
		}
		return fileURI(to, "mode=ro"), remove, nil
	}
	// Apparently nobody can change it.
	uri = fileURI(path, "mode=ro&immutable=1")
	return uri, nil, probe(ctx, uri)
}

// ours reports whether this package made a file, by its header.
func ours(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, headerSize)
	_, err = f.ReadAt(head, 0)
	return err == nil && isOurs(head)
}

// probe reads from a file, and waits for a while if it is locked.
func probe(ctx context.Context, uri string) error {
	wait, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	conn, err := openURI(wait, uri)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return errors.New("stop the program that has locked it")
	}
	return err
}

// openURI opens a file as its URI says, which must have a mode. It waits for locks until
// ctx ends.
func openURI(ctx context.Context, uri string) (*sqlite.Conn, error) {
	conn, err := openConn(uri, sqlite.OpenReadWrite, sqlite.OpenURI)
	if err == nil {
		conn.SetInterrupt(ctx.Done())
	}
	return conn, err
}

func canWrite(dir string) bool {
	f, err := temp.Create(dir, "history-*.new")
	if err != nil {
		return false
	}
	f.Close()
	os.Remove(f.Name())
	return true
}

// copyForConsole returns the name of a file of this schema with the rows of an older one. It is in
// o.Cache if that is set and can be written, and else in a folder that remove removes.
func copyForConsole(ctx context.Context, path, uri string, from origin, o *ConsoleOptions) (name string, remove func(), err error) {
	dir := o.Cache
	if dir == "" || os.MkdirAll(dir, 0o700) != nil || !canWrite(dir) {
		if dir, err = os.MkdirTemp("", "connmap-history-"); err != nil {
			return "", nil, err
		}
		remove = func() { os.RemoveAll(dir) }
		defer func() {
			if err != nil {
				remove()
			}
		}()
	}
	sum := sha256.Sum256([]byte(path))
	name = filepath.Join(dir, fmt.Sprintf("history-%x.sqlite", sum[:8]))
	// Before its rows are read: later changes are copied next time.
	now, err := stampOf(path, o.CacheKey)
	if err != nil {
		return "", nil, err
	}
	if remove == nil {
		switch kept := stampIn(ctx, name); {
		case kept == now:
			return name, nil, nil
		case kept.key == now.key && from == perl:
			// If that fails, for example during long queries of others, it is copied again.
			if err := refresh(ctx, name, uri, now, o.Complete); err == nil || ctx.Err() != nil {
				return name, nil, ctx.Err()
			}
		}
	}
	f, err := temp.Create(dir, filepath.Base(name)+".*.new")
	if err != nil {
		return "", nil, err
	}
	f.Close()
	fresh := f.Name()
	defer func() {
		os.Remove(fresh)
		os.Remove(fresh + "-journal")
	}()
	_, err = copyRows(ctx, fresh, uri, from, &Options{Logger: slog.New(slog.DiscardHandler), Complete: o.Complete, Progress: o.Progress})
	if err == nil {
		err = writeStamp(ctx, fresh, now)
	}
	if err == nil {
		err = os.Rename(fresh, name)
	}
	if err != nil {
		return "", nil, err
	}
	return name, remove, nil
}

// A stamp says of which file, and of which state of it, a copy was made.
type stamp struct {
	key  string // of the name of the file and of how its rows are completed
	file string // of its content
}

func stampOf(path, key string) (stamp, error) {
	f, err := os.Open(path)
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	head := make([]byte, headerSize) // with a counter of changes
	if _, err := f.ReadAt(head, 0); err != nil {
		return stamp{}, err
	}
	h := sha256.New()
	h.Write(head)
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			fmt.Fprintf(h, " %s %d %d", suffix, info.Size(), info.ModTime().UnixNano())
		}
	}
	return stamp{fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q", path, key))), fmt.Sprintf("%x", h.Sum(nil))}, nil
}

func writeStamp(ctx context.Context, name string, s stamp) error {
	conn, err := openURI(ctx, fileURI(name, "mode=rw"))
	if err != nil {
		return err
	}
	return errors.Join(s.write(conn), closeConn(conn))
}

func (s stamp) write(conn *sqlite.Conn) error {
	return sqlitex.Execute(conn, `INSERT OR REPLACE INTO settings VALUES ('copy_key', ?), ('copy_of', ?)`, &sqlitex.ExecOptions{Args: []any{s.key, s.file}})
}

// stampIn is the stamp of the copy in a file; empty if it is none of this schema.
func stampIn(ctx context.Context, name string) (s stamp) {
	conn, err := openURI(ctx, fileURI(name, "mode=ro"))
	if err != nil {
		return s
	}
	defer closeConn(conn)
	if version, err := number(conn, `PRAGMA user_version`); err != nil || version != schemaVersion {
		return s
	}
	sqlitex.Execute(conn, `SELECT (SELECT value FROM settings WHERE name = 'copy_key'), (SELECT value FROM settings WHERE name = 'copy_of')`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			s = stamp{stmt.ColumnText(0), stmt.ColumnText(1)}
			return nil
		},
	})
	return s
}

// refresh updates a copy of connmapperl's file. If only rows were added, that is much faster than
// another copy.
func refresh(ctx context.Context, name, old string, now stamp, complete func(*history.Entry)) (err error) {
	conn, err := openURI(ctx, fileURI(name, "mode=rw"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	conn.SetBusyTimeout(time.Second)
	if err := sqlitex.Execute(conn, `ATTACH ? AS old`, &sqlitex.ExecOptions{Args: []any{old}}); err != nil {
		return err
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	values, err := source(conn, perl, complete)
	if err != nil {
		return err
	}
	columns := strings.Split(perlColumns, ", ")
	return errors.Join(sqlitex.ExecuteScript(conn, `
		CREATE TEMP TABLE gone AS SELECT id FROM main.detailed_history WHERE id NOT IN (SELECT rowid FROM old.detailed_history);
		CREATE TEMP TABLE changed AS SELECT id FROM source AS s LEFT JOIN main.detailed_history AS c USING (id)
			WHERE (s.`+strings.Join(columns[1:], `, s.`)+`) IS NOT (c.`+strings.Join(columns[1:], `, c.`)+`);
		CREATE TEMP TABLE touched AS SELECT DISTINCT lat, lon FROM main.detailed_history WHERE id IN (SELECT id FROM gone UNION ALL SELECT id FROM changed);
		DELETE FROM main.detailed_history WHERE id IN (SELECT id FROM gone UNION ALL SELECT id FROM changed);
		INSERT INTO main.detailed_history SELECT `+values+` FROM (SELECT * FROM source WHERE id IN (SELECT id FROM changed) LIMIT -1);
		INSERT INTO touched SELECT DISTINCT lat, lon FROM main.detailed_history WHERE id IN (SELECT id FROM changed);
		DELETE FROM places WHERE (lat, lon) IN (SELECT lat, lon FROM touched);
		INSERT INTO places SELECT lat, lon, sum(count) FROM main.detailed_history WHERE lat IS NOT NULL AND (lat, lon) IN (SELECT lat, lon FROM touched) GROUP BY lat, lon;
		UPDATE settings SET value = (SELECT count(*) FROM main.detailed_history) WHERE name = 'rows';`+countShares, nil), now.write(conn))
}

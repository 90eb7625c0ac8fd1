package history

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/internal/temp"
)

// readable returns the URI by which a file can be read that perhaps cannot be written, nor
// its folder. remove, unless it is nil, removes what that needs.
func readable(ctx context.Context, path string) (uri string, remove func(), err error) {
	uri = fileURI(path, "mode=ro")
	err = probe(ctx, uri)
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly, sqlite.ResultCantOpen:
	default:
		return uri, nil, err
	}
	// A process that was killed has left something to be rolled back.
	if probe(ctx, fileURI(path, "mode=rw")) == nil {
		return uri, nil, probe(ctx, uri)
	}
	logs := []string{"-wal", "-journal"}
	for _, suffix := range logs {
		if info, e := os.Stat(path + suffix); e != nil || info.Size() == 0 {
			continue
		}
		// What is in it counts too, and can only be read where it can be written.
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
	// Nobody can change it, as far as that can be seen.
	uri = fileURI(path, "mode=ro&immutable=1")
	return uri, nil, probe(ctx, uri)
}

// probe reads from a file, and waits a while if it is locked.
func probe(ctx context.Context, uri string) error {
	wait, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	conn, err := openURI(wait, uri)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return errors.New("end the program that keeps it locked")
	}
	return err
}

// openURI opens a file as its URI says, which must have a mode. It waits for locks until
// ctx ends.
func openURI(ctx context.Context, uri string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(uri, sqlite.OpenReadWrite, sqlite.OpenURI)
	if err == nil {
		conn.SetInterrupt(ctx.Done())
	}
	return conn, err
}

// copyForConsole returns the name of a file of this schema with the rows of an older one. It is in
// o.Cache if it is set, and else in a folder that remove removes.
func copyForConsole(ctx context.Context, path, uri string, from origin, o *ConsoleOptions) (name string, remove func(), err error) {
	dir, stamp := o.Cache, ""
	if dir == "" {
		if dir, err = os.MkdirTemp("", "connmap-history-"); err != nil {
			return "", nil, err
		}
		remove = func() { os.RemoveAll(dir) }
		defer func() {
			if err != nil {
				remove()
			}
		}()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256([]byte(path))
	name = filepath.Join(dir, fmt.Sprintf("history-%x.sqlite", sum[:8]))
	// Before its rows are read: what changes meanwhile is copied again.
	if stamp, err = stampOf(path, o.CacheKey); err != nil {
		return "", nil, err
	}
	if o.Cache != "" && stampIn(ctx, name) == stamp {
		return name, nil, nil
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
		err = writeStamp(ctx, fresh, stamp)
	}
	if err == nil {
		err = os.Rename(fresh, name)
	}
	if err != nil {
		return "", nil, err
	}
	return name, remove, nil
}

// stampOf changes when a file does.
func stampOf(path, key string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 100) // with a counter of changes
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %x", path, key, head)
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			fmt.Fprintf(h, " %s %d %d", suffix, info.Size(), info.ModTime().UnixNano())
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

func writeStamp(ctx context.Context, name, stamp string) error {
	conn, err := openURI(ctx, fileURI(name, "mode=rw"))
	if err != nil {
		return err
	}
	err = sqlitex.Execute(conn, `INSERT OR REPLACE INTO settings VALUES ('copy_of', ?)`, &sqlitex.ExecOptions{Args: []any{stamp}})
	return errors.Join(err, conn.Close())
}

// stampIn is the stamp of the copy in a file; empty if it is none of this schema.
func stampIn(ctx context.Context, name string) (stamp string) {
	conn, err := openURI(ctx, fileURI(name, "mode=ro"))
	if err != nil {
		return ""
	}
	defer conn.Close()
	if from, err := identifyConn(conn); err != nil || from != current {
		return ""
	}
	sqlitex.Execute(conn, `SELECT value FROM settings WHERE name = 'copy_of'`, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		stamp = stmt.ColumnText(0)
		return nil
	}})
	return stamp
}

package sqlite

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/internal/lock"
)

// realPath follows the symbolic links of a name, also if the last one leads to no file yet.
func realPath(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for range 40 { // links, as Linux follows them
		p, err := filepath.EvalSymlinks(path)
		if err == nil {
			return p, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return path, nil // opening it returns the error
		}
		folder, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return path, nil // it is made, or that fails
		}
		path = filepath.Join(folder, filepath.Base(path))
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(folder, to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "open", Path: name, Err: errors.New("too many symbolic links")}
}

// A claim keeps a file for one DB, by whatever names it is opened. Its own descriptor
// stays open as long: to open and close a file that this process has open would cancel
// SQLite's locks.
type claim struct {
	file *os.File
	info fs.FileInfo
}

// claims are the files that DBs of this process have.
var claims struct {
	sync.Mutex
	held []*claim
}

// claimFile claims a file, which it makes, readable by its owner only, if there is none. It
// fails with ErrInUse if another DB has it.
func claimFile(path string) (*claim, error) {
	claims.Lock()
	defer claims.Unlock()
	for range 3 {
		// SQLite falls back to reading silently and creates files that everybody
		// may read.
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			return nil, errors.New("not a file: choose another one")
		}
		for _, c := range claims.held {
			if err == nil && os.SameFile(c.info, info) {
				return nil, ErrInUse
			}
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if info, err = f.Stat(); err == nil {
			err = lock.Inode(f)
		}
		if err != nil {
			f.Close()
			if errors.Is(err, lock.ErrLocked) {
				err = ErrInUse
			}
			return nil, err
		}
		// Another process may have replaced it by an upgraded file meanwhile.
		if now, err := os.Stat(path); err != nil || !os.SameFile(now, info) {
			f.Close()
			continue
		}
		c := &claim{f, info}
		claims.held = append(claims.held, c)
		return c, nil
	}
	return nil, errors.New("another program replaces it again and again: stop that program")
}

func (c *claim) release() {
	claims.Lock()
	defer claims.Unlock()
	for i, other := range claims.held {
		if other == c {
			claims.held = append(claims.held[:i:i], claims.held[i+1:]...)
		}
	}
	c.file.Close()
}

// headerSize is how many bytes an SQLite file begins with: https://sqlite.org/fileformat2.html.
const headerSize = 100

var (
	errNoHistory error = &foreignError{"not a history, nor the remains of one: choose another file, this one stays as it is"}
	errForeign   error = &foreignError{"a database of another program: choose another file, this one stays as it is"}
)

// isHistory reports whether a file is a history or, if it is damaged, was one: only such a one
// is ever set aside. It is if its header says that this package made it, or if its first
// pages, which begin with the table of contents, name the table detailed_history as only
// SQLite does.
func isHistory(r io.ReaderAt) bool {
	head := headOf(r)
	return isOurs(head) || namesTable(head)
}

// headOf returns as much of a file as the largest page.
func headOf(r io.ReaderAt) []byte {
	head := make([]byte, 64<<10)
	n, _ := r.ReadAt(head, 0)
	return head[:n]
}

// isOurs reports whether this package made an SQLite file, by its header.
func isOurs(head []byte) bool {
	return isSQLiteFile(head) && binary.BigEndian.Uint32(head[68:]) == applicationID
}

func isSQLiteFile(head []byte) bool {
	return len(head) >= headerSize && string(head[:16]) == "SQLite format 3\x00"
}

func namesTable(head []byte) bool {
	return bytes.Contains(head, []byte("tabledetailed_historydetailed_history"))
}

// refuse fails if a file is neither empty nor, by its first bytes, one that this package may
// open: SQLite would leave files beside some of them.
func refuse(r io.ReaderAt, path string) error {
	head := headOf(r)
	switch {
	case isOurs(head) || namesTable(head):
		return nil
	case !isSQLiteFile(head):
		return errNoHistory
	case binary.BigEndian.Uint32(head[68:]) != 0:
		return errForeign
	// A database without tables: the first page is a leaf (13) with no cells.
	case binary.BigEndian.Uint32(head[60:]) == 0 && len(head) >= 105 && head[100] == 13 && head[103] == 0 && head[104] == 0:
		return nil
	}
	// The tables may stand in the log alone.
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return nil
	}
	return errForeign
}

// refuseNamed is refuse for a file that only is read. Of one that this process records into
// it knows without opening it.
func refuseNamed(path string) error {
	claims.Lock()
	defer claims.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	for _, c := range claims.held {
		if os.SameFile(c.info, info) {
			return nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return refuse(f, path)
}

// trueName returns the name under which a file with several hard links is recorded: SQLite
// finds its log by the name.
func trueName(path string) string {
	info, err := os.Stat(path)
	if err != nil || links(info) < 2 {
		return path
	}
	// Nothing is made beside it.
	conn, err := openConn(fileURI(path, "mode=ro&immutable=1"), sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return path
	}
	defer closeConn(conn)
	name, err := textOf(conn, settingPath)
	if err != nil || !filepath.IsAbs(name) {
		return path
	}
	if other, err := os.Stat(name); err != nil || !os.SameFile(info, other) {
		return path
	}
	return name
}

const (
	settingPath = `SELECT value FROM settings WHERE name = 'path'`
	settingID   = `SELECT value FROM settings WHERE name = 'id'`
)

// sign writes the name of a file into it, for trueName, and an id that no other file has,
// which it returns.
func sign(conn *sqlite.Conn, path string) (id string, err error) {
	id, err = textOf(conn, settingID)
	if err != nil {
		return "", err
	}
	old, err := textOf(conn, settingPath)
	if err != nil || id != "" && old == path {
		return id, err
	}
	fresh := rand.Text() // a copy is another file
	err = sqlitex.Execute(conn, `INSERT OR REPLACE INTO settings VALUES ('path', ?), ('id', ?)`, &sqlitex.ExecOptions{Args: []any{path, fresh}})
	if isFull(err) {
		return id, nil // the next time
	} else if err != nil {
		return "", err
	}
	id = fresh
	// Both are to be found without the log.
	return id, sqlitex.ExecuteTransient(conn, `PRAGMA wal_checkpoint(PASSIVE)`, nil)
}

// textOf returns the text that a query yields.
func textOf(conn *sqlite.Conn, query string) (s string, err error) {
	err = sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			s = stmt.ColumnText(0)
			return nil
		},
	})
	return s, err
}

// lockFile locks a file beside a history until the result is closed. It is not the
// database: SQLite's own locks would end when it is closed.
func lockFile(history string) (*os.File, error) {
	name := history + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		giveTo(f, history)
	} else if f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 0) {
		err = fmt.Errorf("%s exists and is not a lock file of this program: move it away, or choose another file", name)
	}
	if err == nil {
		err = lock.Try(f)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, lock.ErrLocked) {
			err = ErrInUse
		}
		return nil, err
	}
	return f, nil
}

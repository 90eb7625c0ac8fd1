package sqlite

import (
	"errors"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// maxSpill is how many bytes the temporary files of a question may have together, in
// which SQLite sorts and groups what has no room in memory.
const maxSpill = 256 << 20

// spillVFS is the name of SQLite's interface to the operating system with this bound:
// https://sqlite.org/vfs.html. Only temporary files differ from what the system's own does.
const spillVFS = "connmap-spill"

var spill struct {
	once   sync.Once
	err    error
	system uintptr // *lib.Tsqlite3_vfs

	mu      sync.Mutex           // guards what follows
	methods map[uintptr]uintptr  // ours by the system's, both *lib.Tsqlite3_io_methods
	files   map[uintptr]*spilled // by SQLite's address
	used    map[*libc.TLS]int64  // by connection: the library gives each a TLS of its own
}

// A spilled is a temporary file.
type spilled struct {
	system uintptr // *lib.Tsqlite3_io_methods
	tls    *libc.TLS
	size   int64
}

// registerSpill registers spillVFS. A connection must have been opened before, for the library
// to configure SQLite.
func registerSpill() error {
	spill.once.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		spill.system = lib.Xsqlite3_vfs_find(tls, 0)
		// SQLite keeps them for good, in its own memory.
		vfs, name := kept(tls, lib.Tsqlite3_vfs{}), kept(tls, [len(spillVFS) + 1]byte{})
		if spill.system == 0 || vfs == 0 || name == 0 {
			spill.err = errNoSpill
			return
		}
		spill.methods = make(map[uintptr]uintptr)
		spill.files = make(map[uintptr]*spilled)
		spill.used = make(map[*libc.TLS]int64)
		copy(at[[len(spillVFS) + 1]byte](name)[:], spillVFS)
		v := at[lib.Tsqlite3_vfs](vfs)
		*v = *at[lib.Tsqlite3_vfs](spill.system)
		v.FpNext, v.FzName, v.FxOpen = 0, name, pointer(spillOpen)
		if lib.Xsqlite3_vfs_register(tls, vfs, 0) != lib.SQLITE_OK {
			spill.err = errNoSpill
		}
	})
	return spill.err
}

var errNoSpill = errors.New("SQLite's temporary files cannot be bounded")

// kept puts a value into SQLite's memory; zero: there is none left.
func kept[T any](tls *libc.TLS, v T) uintptr {
	address := lib.Xsqlite3_malloc(tls, int32(unsafe.Sizeof(v)))
	if address != 0 {
		*at[T](address) = v
	}
	return address
}

// at is what SQLite has at an address.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// pointer is a function that SQLite can call. It must be one that is declared, and no closure:
// https://golang.org/s/go11func.
func pointer[T any](f T) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// function is one of SQLite's own.
func function[T any](address uintptr) T { return *(*T)(unsafe.Pointer(&address)) }

func spillOpen(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	open := function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[lib.Tsqlite3_vfs](spill.system).FxOpen)
	rc := open(tls, spill.system, name, file, flags, out)
	const temporary = lib.SQLITE_OPEN_TEMP_DB | lib.SQLITE_OPEN_TRANSIENT_DB | lib.SQLITE_OPEN_TEMP_JOURNAL | lib.SQLITE_OPEN_SUBJOURNAL
	f := at[lib.Tsqlite3_file](file)
	if rc != lib.SQLITE_OK || flags&temporary == 0 || f.FpMethods == 0 {
		return rc
	}
	spill.mu.Lock()
	defer spill.mu.Unlock()
	ours := spill.methods[f.FpMethods]
	if ours == 0 {
		m := *at[lib.Tsqlite3_io_methods](f.FpMethods)
		m.FxWrite, m.FxTruncate, m.FxClose = pointer(spillWrite), pointer(spillTruncate), pointer(spillClose)
		if ours = kept(tls, m); ours == 0 {
			function[func(*libc.TLS, uintptr) int32](at[lib.Tsqlite3_io_methods](f.FpMethods).FxClose)(tls, file)
			f.FpMethods = 0
			return lib.SQLITE_NOMEM
		}
		spill.methods[f.FpMethods] = ours
	}
	spill.files[file] = &spilled{system: f.FpMethods, tls: tls}
	f.FpMethods = ours
	return rc
}

// spillTo notes that a file is to have a size, and returns the system's own methods; nil:
// there is no room for it.
func spillTo(file uintptr, size int64, shrink bool) *lib.Tsqlite3_io_methods {
	spill.mu.Lock()
	defer spill.mu.Unlock()
	f := spill.files[file]
	if size > f.size || shrink {
		if more := size - f.size; more > 0 && spill.used[f.tls]+more > maxSpill {
			return nil
		}
		if spill.used[f.tls] += size - f.size; spill.used[f.tls] == 0 {
			delete(spill.used, f.tls)
		}
		f.size = size
	}
	return at[lib.Tsqlite3_io_methods](f.system)
}

// spillWrite fails with SQLITE_NOLFS, which means files that are too large and which nothing
// else fails with where this package runs.
func spillWrite(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32 {
	m := spillTo(file, offset+int64(n), false)
	if m == nil {
		return lib.SQLITE_NOLFS
	}
	return function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](m.FxWrite)(tls, file, buf, n, offset)
}

func spillTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	m := spillTo(file, size, true)
	if m == nil {
		return lib.SQLITE_NOLFS
	}
	return function[func(*libc.TLS, uintptr, int64) int32](m.FxTruncate)(tls, file, size)
}

func spillClose(tls *libc.TLS, file uintptr) int32 {
	m := spillTo(file, 0, true)
	spill.mu.Lock()
	at[lib.Tsqlite3_file](file).FpMethods = spill.files[file].system
	delete(spill.files, file)
	spill.mu.Unlock()
	return function[func(*libc.TLS, uintptr) int32](m.FxClose)(tls, file)
}

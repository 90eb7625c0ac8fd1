package history

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
	system *lib.Tsqlite3_vfs
	vfs    lib.Tsqlite3_vfs // a copy of system
	name   [len(spillVFS) + 1]byte

	mu      sync.Mutex // guards what follows
	methods map[uintptr]*lib.Tsqlite3_io_methods
	files   map[uintptr]*spilled // by SQLite's address
	used    map[*libc.TLS]int64  // by connection: the library gives each a TLS of its own
}

// A spilled is a temporary file.
type spilled struct {
	system *lib.Tsqlite3_io_methods
	tls    *libc.TLS
	size   int64
}

// registerSpill registers spillVFS. A connection must have been opened before, for the library
// to configure SQLite.
func registerSpill() error {
	spill.once.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		address := lib.Xsqlite3_vfs_find(tls, 0)
		if address == 0 {
			spill.err = errors.New("SQLite has no interface to the operating system")
			return
		}
		spill.system = at[lib.Tsqlite3_vfs](address)
		spill.methods = make(map[uintptr]*lib.Tsqlite3_io_methods)
		spill.files = make(map[uintptr]*spilled)
		spill.used = make(map[*libc.TLS]int64)
		copy(spill.name[:], spillVFS)
		spill.vfs = *spill.system
		spill.vfs.FpNext = 0
		spill.vfs.FzName = uintptr(unsafe.Pointer(&spill.name))
		spill.vfs.FxOpen = pointer(spillOpen)
		if rc := lib.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(&spill.vfs)), 0); rc != lib.SQLITE_OK {
			spill.err = errors.New("SQLite takes no other interface to the operating system")
		}
	})
	return spill.err
}

// at is what SQLite has at an address.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// pointer is a function that SQLite can call. It must be one that is declared, and no closure:
// https://golang.org/s/go11func.
func pointer[T any](f T) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// function is one of SQLite's own.
func function[T any](address uintptr) T { return *(*T)(unsafe.Pointer(&address)) }

func spillOpen(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	open := function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](spill.system.FxOpen)
	rc := open(tls, uintptr(unsafe.Pointer(spill.system)), name, file, flags, out)
	const temporary = lib.SQLITE_OPEN_TEMP_DB | lib.SQLITE_OPEN_TRANSIENT_DB | lib.SQLITE_OPEN_TEMP_JOURNAL | lib.SQLITE_OPEN_SUBJOURNAL
	f := at[lib.Tsqlite3_file](file)
	if rc != lib.SQLITE_OK || flags&temporary == 0 || f.FpMethods == 0 {
		return rc
	}
	spill.mu.Lock()
	defer spill.mu.Unlock()
	m := spill.methods[f.FpMethods]
	if m == nil {
		m = new(lib.Tsqlite3_io_methods) // kept for good by methods
		*m = *at[lib.Tsqlite3_io_methods](f.FpMethods)
		m.FxWrite, m.FxTruncate, m.FxClose = pointer(spillWrite), pointer(spillTruncate), pointer(spillClose)
		spill.methods[f.FpMethods] = m
	}
	spill.files[file] = &spilled{system: at[lib.Tsqlite3_io_methods](f.FpMethods), tls: tls}
	f.FpMethods = uintptr(unsafe.Pointer(m))
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
	return f.system
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
	delete(spill.files, file)
	spill.mu.Unlock()
	at[lib.Tsqlite3_file](file).FpMethods = uintptr(unsafe.Pointer(m))
	return function[func(*libc.TLS, uintptr) int32](m.FxClose)(tls, file)
}

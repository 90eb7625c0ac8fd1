package ranges

import (
	"runtime/debug"
	"strings"
	"unsafe"
)

// A file that is mapped into memory may be cut by somebody while it is in use. To read
// what is then missing is a fault (SIGBUS), which ends a program unless it is caught.

// repanic panics again if what was recovered is no fault within data. It must be called
// with the result of recover by a deferred function.
func repanic(data string, r any) {
	if fault, ok := r.(interface{ Addr() uintptr }); ok {
		begin := uintptr(unsafe.Pointer(unsafe.StringData(data)))
		if at := fault.Addr(); at >= begin && at-begin < uintptr(len(data)) {
			return
		}
	}
	panic(r)
}

// guard calls f, which reads data, and reports whether that could be read.
func guard(data string, f func()) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			repanic(data, r)
		}
	}()
	f()
	return true
}

// guard calls f, which reads the table, and reports whether that could be read.
func (t *Table) guard(f func()) bool {
	if t.cut == nil {
		f()
		return true
	}
	ok := guard(t.data, f)
	if !ok {
		t.cut.Store(true)
	}
	return ok
}

// copied returns the data, and a copy of them if they can be cut.
func (t *Table) copied() (data string, err error) {
	if t.cut == nil {
		return t.data, nil
	}
	if !t.guard(func() { data = strings.Clone(t.data) }) {
		return "", errDamaged
	}
	return data, nil
}

// guarded4 is search4 of what may be cut, and reports whether it could be read. It is
// written out since it must not allocate.
func (t *Table) guarded4(ip uint32) (id uint32, ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			repanic(t.data, r)
			t.cut.Store(true)
			id, ok = 0, false
		}
	}()
	return t.search4(ip), true
}

// guarded6 is search6 in the same way.
func (t *Table) guarded6(a V6) (id uint32, whole bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			repanic(t.data, r)
			t.cut.Store(true)
			id, whole = 0, false
		}
	}()
	return t.search6(a)
}

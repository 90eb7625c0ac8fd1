package ranges

import (
	"runtime/debug"
	"strings"
	"unsafe"
)

// Somebody may truncate a file that is mapped into memory. Reading the missing part is then a
// fault (SIGBUS), which ends a program unless it is caught.

// repanic panics again unless the recovered value is a fault within data. A deferred function must
// call it with the result of recover.
func repanic(data string, r any) {
	if fault, ok := r.(interface{ Addr() uintptr }); ok {
		begin := uintptr(unsafe.Pointer(unsafe.StringData(data)))
		if at := fault.Addr(); at >= begin && at-begin < uintptr(len(data)) {
			return
		}
	}
	panic(r)
}

// guard calls f, which reads data, and reports whether there was no fault.
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

// guard calls f, which reads the table, and reports whether there was no fault.
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

// copied returns the data, as a copy if the file can be truncated.
func (t *Table) copied() (data string, err error) {
	if t.cut == nil {
		return t.data, nil
	}
	if !t.guard(func() { data = strings.Clone(t.data) }) {
		return "", errDamaged
	}
	return data, nil
}

// guarded4 is search4 for a file that can be truncated, and reports whether there was no fault. It
// does not use guard, since it must not allocate.
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

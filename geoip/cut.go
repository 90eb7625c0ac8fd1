package geoip

import (
	"runtime/debug"
	"strings"
	"unsafe"
)

// A file that is mapped into memory may be cut by somebody while it is in use. To read
// what is then missing is a fault (SIGBUS), which ends a program unless it is caught.

// uncaught panics again if what was recovered is no fault within data. It must be called
// with the result of recover by a deferred function.
func uncaught(data string, r any) {
	if fault, ok := r.(interface{ Addr() uintptr }); ok {
		begin := uintptr(unsafe.Pointer(unsafe.StringData(data)))
		if at := fault.Addr(); at >= begin && at-begin < uintptr(len(data)) {
			return
		}
	}
	panic(r)
}

// unlessCut calls f, which reads data, and reports whether that could be read.
func unlessCut(data string, f func()) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			uncaught(data, r)
		}
	}()
	f()
	return true
}

// unlessCut calls f, which reads the table, and reports whether that could be read.
func (t *table) unlessCut(f func()) bool {
	if t.cut == nil {
		f()
		return true
	}
	ok := unlessCut(t.data, f)
	if !ok {
		t.cut.Store(true)
	}
	return ok
}

// copied returns the data, and a copy of them if they can be cut.
func (t *table) copied() (data string, err error) {
	if t.cut == nil {
		return t.data, nil
	}
	if !t.unlessCut(func() { data = strings.Clone(t.data) }) {
		return "", errDamaged
	}
	return data, nil
}

// safely4 is walk4 of what may be cut, and reports whether it could be read. It is
// written out since it must not allocate.
func (t *table) safely4(ip uint32) (id uint32, ok bool) {
	if t.cut == nil {
		return t.walk4(ip), true
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			uncaught(t.data, r)
			t.cut.Store(true)
			id, ok = 0, false
		}
	}()
	return t.walk4(ip), true
}

// safely6 is search6 in the same way.
func (t *table) safely6(hi, lo uint64) (id uint32, whole bool) {
	if t.cut == nil {
		return t.search6(hi, lo)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			uncaught(t.data, r)
			t.cut.Store(true)
			id, whole = 0, false
		}
	}()
	return t.search6(hi, lo)
}

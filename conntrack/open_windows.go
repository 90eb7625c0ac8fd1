package conntrack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// candidates are in the order in which Auto tries them.
var candidates = []candidate{{IPHelper, openIPHelper}}

var procGetExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

const (
	tcpTableOwnerPIDAll = 5 // TCP_TABLE_OWNER_PID_ALL

	minTable = 64 << 10 // bytes
	maxTable = 64 << 20 // bytes, a million sockets
)

// An ipHelper is the lister of the backend IPHelper. It does not read Windows' table of UDP
// sockets, which has no peers: none of its rows is a connection.
type ipHelper struct{ table []byte }

func openIPHelper(o Options) (backend, error) {
	if err := procGetExtendedTCPTable.Find(); err != nil {
		return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	l := &ipHelper{table: make([]byte, minTable)}
	if err := l.list(context.Background(), func(Proto, *sock) {}); err != nil {
		return nil, err
	}
	w := &listedOwners{describe: describeProcess, started: processStarted, deniedNote: "paths of other users' programs need administrator's rights"}
	return newPoller(IPHelper, o, l, w, "UDP (Windows' table of UDP sockets has no peers) and other protocols", "bytes and round-trip times are not in Windows' tables"), nil
}

func (l *ipHelper) close() error { return nil }

func (l *ipHelper) list(ctx context.Context, add func(Proto, *sock)) error {
	for _, family := range [...]uintptr{windows.AF_INET, windows.AF_INET6} {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := l.read(family)
		if err != nil {
			return fmt.Errorf("GetExtendedTcpTable: %w", err)
		}
		if err := parseTCPTable(b, family == windows.AF_INET6, func(s *sock) { add(TCP, s) }); err != nil {
			return err
		}
	}
	return nil
}

// read returns the table of a family, valid until the next call.
func (l *ipHelper) read(family uintptr) ([]byte, error) {
	for {
		size := uint32(len(l.table))
		r, _, _ := procGetExtendedTCPTable.Call(uintptr(unsafe.Pointer(&l.table[0])), uintptr(unsafe.Pointer(&size)), 0, family, tcpTableOwnerPIDAll, 0)
		switch err := syscall.Errno(r); {
		case err == 0:
			return l.table[:min(int(size), len(l.table))], nil
		// A Windows without IPv6.
		case err == windows.ERROR_NOT_SUPPORTED && family == windows.AF_INET6:
			return make([]byte, sizeOfCount), nil
		case err != windows.ERROR_INSUFFICIENT_BUFFER || len(l.table) >= maxTable:
			return nil, err
		}
		// The table may grow until the next call.
		l.table = make([]byte, min(max(int(size)+int(size)/4, 2*len(l.table)), maxTable))
	}
}

// openProcess opens a process with the right that most processes of other users grant.
func openProcess(pid int32) (windows.Handle, error) {
	return windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
}

// processStarted returns when a process started, in nanoseconds.
func processStarted(pid int32) int64 {
	h, err := openProcess(pid)
	if err != nil {
		return 0
	}
	defer windows.CloseHandle(h)
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return 0
	}
	return created.Nanoseconds()
}

// describeProcess reads the path of a process. If that is denied, it reads the name in the
// list of all processes, which everybody may read.
func describeProcess(pid int32) (p Process, denied bool) {
	p.PID = int(pid)
	h, err := openProcess(pid)
	if err == nil {
		defer windows.CloseHandle(h)
		name := make([]uint16, windows.MAX_LONG_PATH)
		size := uint32(len(name))
		if err = windows.QueryFullProcessImageName(h, 0, &name[0], &size); err == nil {
			p.Exe = windows.UTF16ToString(name[:size])
			p.Comm = filepath.Base(p.Exe)
			return p, false
		}
	}
	p.Comm = listedName(uint32(pid))
	// Nobody may read the path of Windows' own process 4.
	return p, errors.Is(err, windows.ERROR_ACCESS_DENIED) && pid != systemProcess
}

const systemProcess = 4

// listedName returns the name of a process in the list of all; empty: it has ended.
func listedName(pid uint32) string {
	list, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(list)
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(list, &e); err == nil; err = windows.Process32Next(list, &e) {
		if e.ProcessID == pid {
			return windows.UTF16ToString(e.ExeFile[:])
		}
	}
	return ""
}

package main

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hideTyping stops a terminal from showing what is typed until show is called. It reports
// whether the file is a terminal.
func hideTyping(f *os.File) (show func(), terminal bool) {
	fd := int(f.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, false
	}
	hidden := *mode
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return func() {}, true
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, mode) }, true
}

// hideArgument overwrites a word of the command line in the memory from which the kernel shows
// it to all users (ps, /proc/PID/cmdline). Package os leaves the words there. Words from
// elsewhere are not changed.
func hideArgument(word string) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil || word == "" {
		return
	}
	begin, end := argumentsAt(stat)
	p := unsafe.StringData(word)
	if at := uintptr(unsafe.Pointer(p)); at < begin || at+uintptr(len(word)) > end {
		return
	}
	b := unsafe.Slice(p, len(word))
	for i := range b {
		b[i] = '*'
	}
}

// argumentsAt reads from a /proc/PID/stat where the command line is in memory, as in
// proc_pid_stat(5); zero: it is unknown.
func argumentsAt(stat []byte) (begin, end uintptr) {
	// The name is in brackets and may itself contain brackets.
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const field = 48 - 3 // the first after the name is the third
	if len(f) <= field+1 {
		return 0, 0
	}
	from, err := strconv.ParseUint(string(f[field]), 10, strconv.IntSize)
	to, toErr := strconv.ParseUint(string(f[field+1]), 10, strconv.IntSize)
	if err != nil || toErr != nil {
		return 0, 0
	}
	return uintptr(from), uintptr(to)
}

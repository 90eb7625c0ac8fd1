package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// hideTyping stops a terminal from showing what is typed until show is called. It reports
// whether the file is a terminal.
func hideTyping(f *os.File) (show func(), terminal bool) {
	fd := int(f.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TIOCGETA)
	if err != nil {
		return nil, false
	}
	hidden := *mode
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TIOCSETA, &hidden); err != nil {
		return func() {}, true
	}
	return func() { unix.IoctlSetTermios(fd, unix.TIOCSETA, mode) }, true
}

func hideArgument(string) {}

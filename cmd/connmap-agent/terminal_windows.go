package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// hideTyping stops a console from showing what is typed until show is called. It reports
// whether the file is a console.
func hideTyping(f *os.File) (show func(), terminal bool) {
	console := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil {
		return nil, false
	}
	if windows.SetConsoleMode(console, mode&^windows.ENABLE_ECHO_INPUT) != nil {
		return func() {}, true
	}
	return func() { windows.SetConsoleMode(console, mode) }, true
}

func hideArgument(string) {}

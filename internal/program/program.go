// Package program runs the main function of programs, and ends them when a signal asks for it.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/connmapgo/connmap/internal/temp"
	"github.com/connmapgo/connmap/internal/terminal"
)

// Grace is how long a program may take to end after a signal. Then it ends even if it waits for
// work that cannot be interrupted, such as sorting a table or reading a disk.
const Grace = 700 * time.Millisecond

var errInterrupted = errors.New("interrupted")

// Main runs run, in the goroutine that calls it, and ends the program, with status 1 and a
// message if there is an error. The context ends at SIGINT, SIGTERM and SIGHUP, but not at a
// SIGHUP that was ignored when the program started, as with nohup. Further signals change nothing.
// If run has not returned after Grace, Main removes the unfinished files of package temp and ends
// the program. Control characters in stderr, and in stdout if it is a terminal, are masked. Prefixes are the
// package names that are removed from the beginning of errors.
func Main(name string, run func(ctx context.Context, stdout, stderr io.Writer) error, prefixes ...string) {
	stderr := &terminal.Writer{W: os.Stderr}
	fail := func(err error) {
		text := err.Error()
		if errors.Is(err, context.Canceled) {
			text = errInterrupted.Error()
		}
		for _, p := range prefixes {
			text = strings.TrimPrefix(text, p+": ")
		}
		fmt.Fprintln(stderr, name+": "+text)
		os.Exit(1)
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP) // the terminal is closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	go func() {
		// More signals change nothing until then: the terminal, a shell and timeout(1) send two
		// at once, and what is not saved yet would be lost.
		<-ctx.Done()
		time.Sleep(Grace)
		stop()
		temp.RemoveUnfinished()
		go fail(errInterrupted)
		time.Sleep(100 * time.Millisecond) // nobody may read what it prints
		os.Exit(1)
	}()
	if err := run(ctx, terminal.Output(os.Stdout), stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fail(err)
	}
}

// Version returns the version of a program. It is the one set by the linker, or else the
// version or commit recorded by the Go command, or else "development".
func Version(set string) string {
	if set != "" {
		return set
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

// CheckFiles returns an error if the process may have fewer files open than what it is needs.
func CheckFiles(what string, min uint64) error {
	if n := MaxFiles(); n > 0 && n < min {
		return fmt.Errorf("only %d files may be open at the same time, which is too few for %s: allow %d or more with ulimit -n, or with LimitNOFILE of its service", n, what, min)
	}
	return nil
}

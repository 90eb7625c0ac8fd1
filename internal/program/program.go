// Package program runs the programs: whatever one is doing, it ends when it is asked to.
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

// Grace is how long a program may take to end by itself after a signal. Work that
// cannot be interrupted, such as sorting a table or waiting for a disk, is then left.
const Grace = 700 * time.Millisecond

var errInterrupted = errors.New("interrupted")

// Main runs run, in the goroutine that calls it, and ends the program: with status 1 and a
// message if there is an error. ctx ends at SIGINT, SIGTERM and SIGHUP; a SIGHUP that was
// ignored when the program started, as nohup has it, stays ignored. If run has not returned
// after Grace, the program ends without it, and the temporary files of package temp that were
// not finished are removed. What is written to stderr is masked for terminals, and what to
// stdout if that is one. prefixes are the names of packages with which errors begin, which
// are left out.
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
		<-ctx.Done()
		stop() // who asks again does not wait
		time.Sleep(Grace)
		temp.RemoveUnfinished()
		fail(errInterrupted)
	}()
	if err := run(ctx, terminal.Output(os.Stdout), stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fail(err)
	}
}

// Version returns what a program says of its version: what the linker has set, else the
// version or the commit that the Go command has noted, else "development".
func Version(set string) string {
	if set != "" {
		return set
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

// Command connmap-data downloads, checks, lists and compiles the tables by which the map finds
// the places and the holders of addresses. Only its command update uses the network.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/internal/program"
	"github.com/connmapgo/connmap/internal/terminal"
)

// version is set by the linker for releases.
var version string

func main() {
	program.Main("connmap-data", func(ctx context.Context, stdout, stderr io.Writer) error {
		return run(ctx, os.Args[1:], stdout, stderr)
	}, "geoip")
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	a := &app{
		stdout: stdout, stderr: stderr,
		sets: sets(), now: time.Now, getenv: os.Getenv,
		network: fetcher{client: newClient, stall: 30 * time.Second, maxTime: 2 * time.Hour, pause: time.Second},
	}
	if terminal.Is(os.Stderr) {
		a.screen = os.Stderr
	}
	return a.run(ctx, args)
}

// An app is one run of the command. Tests replace its clock, environment and network.
type app struct {
	stdout, stderr io.Writer
	screen         io.Writer // the terminal, for progress bars; nil: there is none
	sets           []set
	now            func() time.Time
	getenv         func(string) string
	network        fetcher
}

func (a *app) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		a.usage()
		return errors.New("no command given: use update, status or compile")
	}
	switch args[0] {
	case "update":
		return a.runUpdate(ctx, args[1:])
	case "status":
		return a.runStatus(args[1:])
	case "compile":
		return a.runCompile(args[1:])
	case "-h", "-help", "--help", "help":
		a.usage()
		return flag.ErrHelp
	case "-version", "--version":
		fmt.Fprintln(a.stdout, "connmap-data", program.Version(version))
		return nil
	}
	return fmt.Errorf("unknown command %q: use update, status or compile; connmap-data -h explains them", args[0])
}

// flags returns a flag set whose help begins with text.
func (a *app) flags(command, text string) *flag.FlagSet {
	f := flag.NewFlagSet("connmap-data "+command, flag.ContinueOnError)
	f.SetOutput(a.stderr)
	f.Usage = func() {
		fmt.Fprintf(a.stderr, "%s\n\n", text)
		f.PrintDefaults()
	}
	return f
}

// parse parses flags before, between and after other arguments, and returns these arguments.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w; %s -h lists the flags", err, f.Name())
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
}

func dataFlag(f *flag.FlagSet) *string {
	return f.String("data", filepath.Join(xdg.DataHome, "connmap"), "`folder` of the data sets, by default the one of the map server")
}

func (a *app) runUpdate(ctx context.Context, args []string) error {
	f := a.flags("update", `usage: connmap-data update [flags] [NAME...]

Downloads the default data sets, or the named ones, into the data folder, if
there is something newer, by the date in the data, or else in the file's name,
or else on the server; a date in the future does not count. A file is replaced
only by one that is complete and passes all checks; until then, and after an
error, the old file stays in use. One in use that is damaged is downloaded again.
An interrupted download continues where it stopped, for a week. One that brings
less than 1 kB a second, or takes more than two hours, is given up until the
next update. connmap-data -h lists the names.`)
	dir := dataFlag(f)
	from := f.String("from", "", "`URL` of a mirror with the same paths, used in place of the sites; it is sent no keys")
	names, err := parse(f, args)
	if err != nil {
		return err
	}
	chosen, err := a.choose(names)
	if err != nil {
		return err
	}
	var mirror *url.URL
	// An empty URL, as of a variable that is not set, must not mean the sites.
	mirrored := false
	f.Visit(func(f *flag.Flag) { mirrored = mirrored || f.Name == "from" })
	if mirrored {
		mirror, err = url.Parse(*from)
		if err != nil || mirror.Host == "" || mirror.Scheme != "http" && mirror.Scheme != "https" {
			return errors.New("-from: expected a URL such as https://mirror.example.com/connmap")
		}
	}
	return a.update(ctx, *dir, mirror, chosen)
}

func (a *app) runStatus(args []string) error {
	f := a.flags("status", `usage: connmap-data status [flags] [FILE...]

Lists the data sets in the data folder with their dates, rows, sources and
licences, and says which are older than 100 days. Of named files it says what
they are, and what of them is not read. It does not use the network.`)
	dir := dataFlag(f)
	asJSON := f.Bool("json", false, "print a JSON array (default a table)")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	var rows []state
	if len(rest) > 0 {
		rows, err = a.statusOf(rest)
		*dir = ""
		if len(rows) == 0 {
			return err
		}
	} else if rows, err = a.status(*dir); err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	return errors.Join(a.printStatus(*dir, rows), err)
}

// choose returns the data sets of the given names, or the default ones.
func (a *app) choose(names []string) ([]set, error) {
	var chosen []set
	if len(names) == 0 {
		for _, s := range a.sets {
			if !s.optIn {
				chosen = append(chosen, s)
			}
		}
		return chosen, nil
	}
	wanted := map[string]bool{}
	for _, name := range names {
		found := false
		for _, s := range a.sets {
			if s.name == name || s.group() == name {
				wanted[s.name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown data set %q; connmap-data -h lists them", name)
		}
	}
	for _, s := range a.sets {
		if wanted[s.name] {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

func (a *app) usage() {
	var b strings.Builder
	b.WriteString(`connmap-data manages the tables by which the map finds the places and the
holders of addresses. Without them, the map shows countries from a built-in
table.

  connmap-data update            download the default data sets, if newer
  connmap-data update NAME...    only the named ones; rir and autnum name all five
  connmap-data status            list the data sets, their age, source and licence
  connmap-data status FILE...    say what any files are, and what of them is read
  connmap-data compile FILE      make a table of places that opens at once

Only update uses the network. connmap-data COMMAND -h lists the flags.

The default data sets, which need no sign-up:

`)
	list := func(optIn bool) {
		for _, s := range a.sets {
			if s.optIn == optIn {
				fmt.Fprintf(&b, "  %-14s %s\n  %-14s %s, %s\n", s.name, s.what, "", s.about, s.licence)
			}
		}
	}
	list(false)
	b.WriteString("\nDownloaded only if you name them:\n\n")
	list(true)
	b.WriteString(`
Keys are read from the environment, never from the command line:
  MAXMIND_ACCOUNT_ID, MAXMIND_LICENSE_KEY   https://www.maxmind.com/en/geolite2/signup
  IPINFO_TOKEN                              https://ipinfo.io/signup
`)
	io.WriteString(a.stderr, b.String())
}

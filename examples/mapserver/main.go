// Command mapserver shows live on a world map where the network connections
// of this machine and of all joined agents go, and records them.
// It sends nothing anywhere: all places and names come from local tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/peernames"
	"github.com/connmapgo/connmap/internal/private"
	"github.com/connmapgo/connmap/internal/program"
	"github.com/connmapgo/connmap/internal/ranges"
)

// version is set by the linker for releases.
var version string

func main() {
	private.NoCoreDumps()
	dropRights(os.Args[1:])
	// Most objects die at once: to collect more often saves memory for little time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	program.Main("mapserver", func(ctx context.Context, stdout, stderr io.Writer) error {
		return run(ctx, os.Args[1:], stdout, stderr)
	}, "feed")
}

// minFiles is how many files a map server must be allowed to have open: its own, and some
// for queries and a few agents.
const minFiles = 128

// A config has the settings of the flags and the environment.
type config struct {
	configDir, dataDir string
	cacheDir           string // of compiled tables
	listen             string
	fallback           bool         // listen at feed.FallbackPort if the address is in use
	agents             int          // how many may be connected at the same time
	approve            *bool        // accept only approved agents; nil: as set before
	password           string       // with which agents can join too; empty: only with tokens
	passwordFile       string       // of the password; empty: none
	rules              string       // empty: found by findRules
	homeDir            string       // where connmapperl's files may be; empty: none
	history            string       // empty: record nothing
	geo, asn           program.List // empty: those in dataDir
	nat64              ranges.NAT64
	home               geoip.Place
	noLocal, loopback  bool
	names              peernames.Mode
	headless           bool
	screenshot         string
	after              time.Duration
	demo               int
	sound              string
	light              bool
	size               image.Point
	themed, sized      bool               // theme and size are given: the remembered ones do not count
	keep               *history.Retention // nil: as set before
	question           question
	version            bool
	collector          *remote // in another process; nil: this process collects
}

// readPassword reads the password from its file or from the environment, if there is one.
func (c *config) readPassword(stderr io.Writer) error {
	if c.passwordFile == "" {
		c.password = os.Getenv("CONNMAP_PASSWORD")
		return os.Unsetenv("CONNMAP_PASSWORD") // the command of -sound need not know it
	}
	var err error
	if c.password, err = private.ReadLine(c.passwordFile); err != nil {
		return fmt.Errorf("-password-file: %w", err)
	}
	notice, err := private.Restrict(c.passwordFile, private.Given)
	if err != nil {
		notice = err.Error() // no reason to stop: the file may be open to others on purpose
	}
	if notice != "" {
		fmt.Fprintln(stderr, "mapserver:", notice)
	}
	return nil
}

var minSize = image.Pt(160, 80)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && (args[0] == "agents" || args[0] == "token") {
		return administer(args[0], args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == collectCommand {
		return collect(ctx, args[1:], stderr)
	}
	if len(args) > 0 && args[0] == "import" {
		return runImport(ctx, args[1:], stdout, stderr)
	}
	cfg, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if cfg.version {
		_, err := fmt.Fprintln(stdout, "mapserver", program.Version(version))
		return err
	}
	if cfg.question.sql != "" {
		return query(ctx, cfg, stdout, stderr)
	}
	if cfg.screenshot != "" {
		if err := checkReplaceable(cfg.screenshot); err != nil {
			return fmt.Errorf("screenshot: %w", err)
		}
	}
	if err := program.CheckFiles("a map server", minFiles); err != nil {
		return err
	}
	if err := cfg.readPassword(stderr); err != nil {
		return err
	}
	cfg.collector = inheritedCollector
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if notConfined != "" {
		log.Info("this process was started as root and keeps rights that it does not need", "reason", notConfined)
	}
	a, err := start(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer a.stop()
	if cfg.screenshot != "" {
		return a.screenshot(ctx, stdout)
	}
	a.greet(stdout)
	if cfg.headless {
		return a.headless(ctx, stdout, "as asked by -headless")
	}
	return a.window(ctx, stdout)
}

func parse(args []string, stderr io.Writer) (config, error) {
	cfg := config{
		configDir: configDir(),
		dataDir:   filepath.Join(xdg.DataHome, "connmap"),
		cacheDir:  filepath.Join(xdg.CacheHome, "connmap"),
	}
	cfg.homeDir, _ = os.UserHomeDir()
	cfg.question.params = params{}
	var home, theme, size, keep string
	f := flag.NewFlagSet("mapserver", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&cfg.listen, "listen", fmt.Sprintf(":%d", feed.DefaultPort), fmt.Sprintf("`address` where agents join; the default falls back to :%d if another program uses it; none: accept no agents", feed.FallbackPort))
	f.IntVar(&cfg.agents, "max-agents", 1000, "maximum number of agents at the same time")
	f.BoolFunc("approve", "require mapserver agents approve for new agents, until -approve=false turns it off (default as set last, at first off: the token is enough)", func(s string) error {
		yes, err := strconv.ParseBool(s)
		cfg.approve = &yes
		return err
	})
	f.StringVar(&cfg.passwordFile, "password-file", "", "`file` with a password for agents that have server-cert.pem, as with connmapperl (default the variable CONNMAP_PASSWORD; if not set, agents need the token)")
	f.StringVar(&cfg.rules, "rules", "", "`file` of the colour rules (default connmaprc in the folder below, created if missing; until you edit it, connmapperl2rc.beep or .connmaprc in the working directory or the home folder is used instead)")
	f.StringVar(&cfg.history, "history", filepath.Join(cfg.dataDir, "history.sqlite"), "`file` to record connections in; none: record nothing")
	f.Var(&cfg.geo, "geo", "`file` of places in any layout that geoip.Open reads; may be repeated, the most exact place counts, and the embedded countries fill gaps (default all in the data folder, where connmap-data and import put them)")
	f.Var(&cfg.asn, "asn", "`file` of networks in any layout that asn.Open reads; may be repeated, and the embedded table fills gaps (default all in the data folder)")
	f.Func("nat64", "`prefix` of a NAT64 translator, such as 2001:db8:64::/96, besides 64:ff9b::/96; may be repeated", func(s string) error {
		p, err := ranges.ParseNAT64(s)
		cfg.nat64 = append(cfg.nat64, p)
		return err
	})
	f.StringVar(&home, "home", "", "`LAT,LON` of this machine in degrees (default by its public address or time zone)")
	f.BoolVar(&cfg.noLocal, "no-local", false, "do not show this machine's own connections (default show them)")
	f.BoolVar(&cfg.loopback, "loopback", false, "collect this machine's connections to itself too; press m to see them (default leave them out)")
	f.BoolVar(&cfg.headless, "headless", false, "collect and record without a window (default a window, if there is a display)")
	f.StringVar(&cfg.screenshot, "screenshot", "", "draw the map into `file`.png without a display, then exit; listens and records only if -listen and -history are given (default a window)")
	f.DurationVar(&cfg.after, "after", 2*time.Second, "how long -screenshot collects before it draws")
	f.IntVar(&cfg.demo, "demo", 0, "show `N` synthetic connections instead of this machine's; listens and records only if -listen and -history are given (default real ones)")
	f.StringVar(&cfg.sound, "sound", "", "for connections whose rule says Beep: a `file` that ends in .wav, a command with its arguments, or none (default a short tone)")
	f.StringVar(&theme, "theme", "dark", "dark or light (default as in the last window, at first dark)")
	f.TextVar(&cfg.names, "names", peernames.Full, "names of peers that are shown and recorded: `full`, domain (such as example.com of www.example.com), or off, so that agents keep theirs to themselves and none are learnt here")
	f.StringVar(&keep, "keep", "", "how much history to keep: an age such as 90d, a file size such as 4GB, a number of rows such as 5000000, the age of names such as names:30d, several of these separated by commas, or all (default as set last, at first 4GB)")
	f.StringVar(&cfg.question.sql, "query", "", "run a query in `SQL` on the history and exit, also while a server runs; @NAME runs a saved query, list lists them")
	f.StringVar(&cfg.question.format, "format", "table", "format of the result of -query: table, csv or json")
	f.StringVar(&cfg.question.times, "times", "", "times in the result of -query: number (Unix seconds), local (with the zone) or iso (ISO 8601, UTC); default local in a table, else number")
	f.BoolVar(&cfg.question.raw, "raw", false, "with -format csv, write texts unchanged (default a ' before those that a spreadsheet would take for formulas)")
	f.DurationVar(&cfg.question.timeout, "timeout", 0, "maximum time of -query, such as 1h; 0: no maximum (default 1m for a table, 10m for csv and json)")
	f.Var(cfg.question.params, "param", "`NAME=VALUE` of a parameter of -query, such as since='-7 days'; can be repeated")
	f.StringVar(&size, "size", "1000x500", "`WIDTHxHEIGHT` of the window or picture in pixels (default as in the last window, at first 1000x500)")
	f.BoolVar(&cfg.version, "version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver shows on a world map where the connections of this machine and its agents go.

  mapserver [flags]                            run the map
  mapserver token [-rotate] [-expires 1h]      print or make the token with which agents join
  mapserver agents list|approve|revoke|rename  list and change the agents that have joined
  mapserver import DIR                         import the files of a connmapperl folder

`)
		f.PrintDefaults()
		fmt.Fprintf(stderr, "\nRules and the server's key are in %s, the history is in %s.\n", cfg.configDir, cfg.dataDir)
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return cfg, err
		}
		return cfg, fmt.Errorf("%w; mapserver -h lists the flags", err)
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q; mapserver -h lists the flags", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range []string{"format", "times", "param", "raw", "timeout"} {
		if given[name] && !given["query"] {
			return cfg, fmt.Errorf("-%s can only be used with -query", name)
		}
	}
	if given["query"] && strings.TrimSpace(cfg.question.sql) == "" {
		return cfg, errors.New("-query: the query is empty; mapserver -query list lists saved queries")
	}
	switch q := &cfg.question; {
	case q.timeout < 0:
		return cfg, fmt.Errorf("-timeout: expected a time such as 1h, or 0, found %v", q.timeout)
	case !given["timeout"] && q.format == "table":
		q.timeout = time.Minute
	case !given["timeout"]:
		q.timeout = exportTimeout
	case q.timeout == 0:
		q.timeout = -1
	}
	if f := cfg.question.format; !slices.Contains([]string{"table", "csv", "json"}, f) {
		return cfg, fmt.Errorf("-format: want table, csv or json, found %q", f)
	}
	if cfg.question.raw {
		if cfg.question.format != "csv" {
			return cfg, errors.New("-raw can only be used with -format csv")
		}
		cfg.question.format = "rawcsv"
	}
	cfg.themed, cfg.sized = given["theme"], given["size"]
	cfg.fallback = !given["listen"]
	// A demonstration or a single picture must neither mix with the real
	// history nor disturb a running server.
	separate := cfg.demo > 0 || cfg.screenshot != ""
	if cfg.listen == "none" || separate && !given["listen"] {
		cfg.listen = ""
	}
	if cfg.history == "none" || separate && !given["history"] {
		cfg.history = ""
	}
	if cfg.demo < 0 || cfg.demo > 1_000_000 {
		return cfg, fmt.Errorf("-demo: expected 1 to 1000000 connections, found %d", cfg.demo)
	}
	if cfg.agents < 1 {
		return cfg, fmt.Errorf("-max-agents: expected 1 or more, found %d", cfg.agents)
	}
	if keep != "" {
		r, err := parseRetention(keep)
		if err != nil {
			return cfg, err
		}
		cfg.keep = &r
	}
	if home != "" {
		p, err := parseHome(home)
		if err != nil {
			return cfg, err
		}
		cfg.home = p
	}
	switch theme {
	case "dark", "light":
		cfg.light = theme == "light"
	default:
		return cfg, fmt.Errorf("-theme: expected dark or light, found %q", theme)
	}
	if n, err := fmt.Sscanf(strings.ToLower(size), "%dx%d", &cfg.size.X, &cfg.size.Y); n != 2 || err != nil ||
		cfg.size.X < minSize.X || cfg.size.Y < minSize.Y || cfg.size.X > 16384 || cfg.size.Y > 16384 {
		return cfg, fmt.Errorf("-size: expected WIDTHxHEIGHT from 160x80 to 16384x16384, found %q", size)
	}
	return cfg, nil
}

// Command connmap-agent reports the network connections of this machine to a map server, or
// prints them. It takes no commands from the server and needs no database.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/internal/confine"
	"github.com/connmapgo/connmap/internal/peernames"
	"github.com/connmapgo/connmap/internal/private"
	"github.com/connmapgo/connmap/internal/program"
)

// version is set by the linker for releases.
var version string

func main() {
	// An idle agent must be cheap: with more processors the scheduler wakes threads for each
	// other.
	runtime.GOMAXPROCS(1)
	private.NoCoreDumps()
	dropsRights = true
	program.Main("connmap-agent", func(ctx context.Context, stdout, stderr io.Writer) error {
		return service(ctx, os.Args[1:], stderr, func(ctx context.Context, args []string, stderr io.Writer) error {
			return run(ctx, args, stdout, stderr)
		})
	}, "feed")
}

// dropsRights is false in tests, whose process must keep its rights.
var dropsRights bool

// dropRights drops the rights of root that this process does not need to read sockets and to
// report. It does nothing for other users.
func (o *options) dropRights(backend conntrack.Backend, log *slog.Logger) {
	if !dropsRights || !confine.Root() {
		return
	}
	keep := confine.Keep{Capabilities: confine.Polling}
	if backend == conntrack.EBPF {
		keep.Capabilities = confine.Following
	}
	if !o.once && !o.watch && o.spool != "" {
		keep.Folders, keep.Mark = []string{o.spool}, ".ends"
	}
	r := confine.Process(keep)
	attrs := []any{"user", r.User, "capabilities", r.Capabilities.String(), "no_new_privs", r.NoNewPrivs, "seccomp", r.Filtered}
	if r.Missing != nil {
		attrs = append(attrs, "not_dropped", errors.Join(r.Missing...))
	}
	log.Info("rights", attrs...)
}

// options holds the command line.
type options struct {
	host, token, tokenFile, name, backend       string
	names                                       peernames.Mode
	key, cert, spool                            string
	server                                      *x509.Certificate // of the map server, if the secret is a password
	once, watch, json, loopback, v, print, tofu bool
	interval                                    time.Duration
}

// minFiles is how many files an agent has open: those of the kernel's programs and their links.
const minFiles = 128

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "install" {
		return install(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "uninstall" {
		return uninstall(ctx, args[1:], stdout, stderr)
	}
	o, err := parse(args, stdout, stderr)
	if err != nil || o.print {
		return err
	}
	if err := program.CheckFiles("an agent", minFiles); err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.v {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	var token feed.Token
	var key ed25519.PrivateKey
	if !o.once && !o.watch {
		if token, err = o.readToken(ctx, stderr); err != nil {
			return err
		}
		var notice string
		if key, notice, err = o.readKey(); err != nil {
			// The agent reports all the same, but only as long as the token is valid.
			log.Warn("this machine has no key and needs the token at each start: name a writable file with -key", "error", err)
		}
		if notice != "" {
			log.Warn(notice)
		}
	}
	c, err := conntrack.New(conntrack.Options{Backend: conntrack.Backend(o.backend), Interval: o.interval, Loopback: o.loopback, Names: o.names != peernames.Off, Logger: log})
	if err != nil {
		return err
	}
	defer c.Close()
	// Loading the kernel programs took memory, which is returned here. A daemon must be
	// small and stay small.
	debug.FreeOSMemory()
	debug.SetGCPercent(30)
	info := c.Info()
	log.Info("reading sockets", "backend", string(info.Backend))
	o.dropRights(info.Backend, log)
	if info.Limited != "" {
		fmt.Fprintln(stderr, "connmap-agent:", info.Limited)
	}
	switch {
	case o.once:
		conns, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		now, p := time.Now(), &printer{w: stdout, json: o.json, names: o.names}
		for _, conn := range conns {
			if err := p.print(conntrack.Event{Kind: conntrack.Open, Time: now, Conn: conn}); err != nil {
				return err
			}
		}
		return p.flush()
	case o.watch:
		return watch(ctx, c, stdout, o)
	}
	client := &feed.Client{
		Addr: o.host, Token: token, Key: key, Name: o.name, Source: c, Info: c.Info, Spool: o.spool, Names: o.names.Of, Logger: log,
	}
	return client.Run(ctx)
}

func parse(args []string, stdout, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("connmap-agent", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.once, "once", false, "print this machine's connections and exit (default report to a server)")
	f.BoolVar(&o.watch, "watch", false, "print connections as they open, change and close, until interrupted (default report to a server)")
	f.BoolVar(&o.json, "json", false, "with -once or -watch: one JSON object a line (default columns)")
	o.secretFlags(f)
	f.StringVar(&o.key, "key", "", "`file` with this machine's own key, created if missing (default agent-key.pem in the state folder of the service, or in connmap in your configuration folder)")
	f.StringVar(&o.spool, "spool", "", "`folder` for 64 MB of close events that memory has no room for, or that the map server has not acknowledged when the agent ends; none: no such folder (default spool in the state folder of the service, otherwise none)")
	f.BoolVar(&o.tofu, "tofu", false, "with a password: trust the certificate that the server has now, and save it in the file of -cert or in server-cert.pem")
	f.StringVar(&o.name, "name", "", "`name` of this machine on the map (default its host name)")
	f.StringVar(&o.backend, "backend", "", "how to read sockets: `ebpf`, diag or proc on Linux, iphelper on Windows, pcblist on macOS (default the best that works here)")
	f.DurationVar(&o.interval, "interval", time.Second, "time between reads of counters, and between polls of sockets")
	f.BoolVar(&o.loopback, "loopback", false, "include connections to loopback addresses (default leave them out)")
	f.TextVar(&o.names, "names", peernames.Full, "names of peers, which eBPF learns from DNS, TLS, QUIC and HTTP: `full`, domain (such as example.com of www.example.com), or off, so that no payload is read")
	f.BoolVar(&o.v, "v", false, "log connects to the server and rights too (default only warnings and errors)")
	showVersion := f.Bool("version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprint(stderr, `connmap-agent reports where this machine's network connections go.

  connmap-agent HOST[:PORT] -       report to a map server; ask for the token, or read it
                                    from standard input
  connmap-agent HOST[:PORT]         the same, with the token in a file or in CONNMAP_TOKEN
  connmap-agent HOST[:PORT] TOKEN   the same, with a token that other users can see
  connmap-agent -once -json         print the present connections
  connmap-agent -watch              print connections as they open and close
  connmap-agent install -h          explain how to install the agent as a service

Without a port it tries 6789 and 10789. If the map server takes passwords, give the
password in place of the token; its certificate must be here too. After the first time
the server recognises this machine by a key that the agent creates.

As root, or with the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, it reports all
connections of all users and containers, however short, with program and bytes. Then it
drops the rights of root that it does not need; -v logs them. Otherwise, or on Linux
before 5.12, it polls; without root it names only your own programs. On Windows and
macOS (experimental) it polls, without bytes, and on Windows without UDP.

`)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w; connmap-agent -h lists the flags", err)
	}
	if *showVersion {
		o.print = true
		fmt.Fprintln(stdout, "connmap-agent", program.Version(version))
		return o, nil
	}
	local := o.once || o.watch
	switch {
	case o.once && o.watch:
		return o, errors.New("-once and -watch exclude each other: use one of them")
	case o.json && !local:
		return o, errors.New("-json goes with -once or -watch: add one of them, or leave out -json")
	case local && f.NArg() > 0:
		return o, errors.New("-once and -watch take no server and no token: leave out HOST and TOKEN")
	case !local && f.NArg() == 0:
		return o, errors.New("no server named: connmap-agent HOST - asks for the token that mapserver token prints; connmap-agent -once prints connections without a server")
	case f.NArg() > 2:
		return o, errors.New(tooManyWords) // one of them may be a secret
	case isToken(f.Arg(0)):
		return o, errors.New(wrongOrder)
	case o.interval < 10*time.Millisecond:
		return o, fmt.Errorf("-interval: expected 10ms or more, found %v", o.interval)
	}
	o.host = f.Arg(0)
	o.takeToken(f.Arg(1))
	if state := os.Getenv("STATE_DIRECTORY"); o.spool == "" && state != "" { // systemd sets it for services
		o.spool = filepath.Join(state, "spool")
	}
	if o.spool == "none" {
		o.spool = ""
	}
	if o.name == "" {
		o.name, _ = os.Hostname()
	}
	return o, nil
}

// secretFlags defines the flags with the secrets by which this machine joins.
func (o *options) secretFlags(f *flag.FlagSet) {
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with the token or the password (default CONNMAP_TOKEN, otherwise agent.token in connmap in your configuration folder)")
	f.StringVar(&o.tokenFile, "password-file", "", "`file` with the password: the same as -token-file")
	f.StringVar(&o.cert, "cert", "", "`file` with the map server's certificate, which a password needs (default CONNMAP_CERT_B64, otherwise server-cert.pem in this folder or in connmap in your configuration folder)")
}

// watch prints events until ctx ends, even if nobody reads the output.
func watch(ctx context.Context, c *conntrack.Collector, stdout io.Writer, o options) error {
	p := &printer{w: stdout, json: o.json, names: o.names}
	ended := make(chan error, 1)
	go func() {
		for e, err := range c.Events(ctx) {
			if err == nil {
				err = p.print(e)
			}
			if err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
		}
		ended <- p.flush()
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(500 * time.Millisecond):
		return nil
	}
}

const (
	printDelay = 10 * time.Millisecond // how long a line waits for others at most
	printSize  = 32 << 10              // bytes of lines that are written together
)

// A printer prints events as lines. It writes many lines at a time: a system call for each
// would cost as much as all other work.
type printer struct {
	w     io.Writer
	json  bool
	names peernames.Mode

	mu    sync.Mutex
	lines []byte
	err   error // of a write

	process conntrack.Process // the last that was named
	name    string
}

func (p *printer) print(e conntrack.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if len(p.lines) == 0 {
		time.AfterFunc(printDelay, func() { p.flush() })
	}
	var err error
	if p.lines, err = p.line(p.lines, e); err != nil {
		return err
	}
	if len(p.lines) >= printSize {
		p.write()
	}
	return p.err
}

func (p *printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write()
	return p.err
}

func (p *printer) write() {
	if len(p.lines) > 0 && p.err == nil {
		_, p.err = p.w.Write(p.lines)
		p.lines = p.lines[:0]
	}
}

// nameOf returns a name for a process. It caches the last, which the next line often needs.
func (p *printer) nameOf(q conntrack.Process) string {
	switch {
	case q == conntrack.Process{}:
		return "?"
	case q == p.process:
		return p.name
	}
	p.process = q
	q = frame.Clean(conntrack.Conn{Process: q}).Process
	switch {
	case q.PID != 0:
		p.name = fmt.Sprintf("%s[%d]", q.Comm, q.PID)
	case q.Exe != "":
		p.name = fmt.Sprintf("%s[%s]", q.Comm, q.Exe)
	default:
		p.name = q.Comm
	}
	return p.name
}

// line appends an event as a line.
func (p *printer) line(b []byte, e conntrack.Event) ([]byte, error) {
	e.Conn.Name = p.names.Of(e.Conn.Name)
	if p.json {
		line, err := e.MarshalJSON()
		return append(append(b, line...), '\n'), err
	}
	b = e.Time.AppendFormat(b, "15:04:05")
	if e.Kind == conntrack.Lost {
		return fmt.Appendf(b, "  lost %d connections\n", e.Lost), nil
	}
	c := &e.Conn
	start := len(b)
	// column pads the column before to a width in characters.
	column := func(width int) {
		for n := utf8.RuneCount(b[start:]); n < width; n++ {
			b = append(b, ' ')
		}
		b = append(b, ' ')
		start = len(b)
	}
	column(1)
	b = append(b, e.Kind.String()...)
	column(6)
	b = append(b, c.Proto.String()...)
	column(6)
	b = append(b, c.Direction.String()...)
	column(7)
	b = c.Local.AppendTo(b)
	column(28)
	b = c.Peer.AppendTo(b)
	column(28)
	b = append(b, p.nameOf(c.Process)...)
	column(24)
	b = append(b, "tx "...)
	b = strconv.AppendUint(b, c.Tx, 10)
	b = append(b, " rx "...)
	b = strconv.AppendUint(b, c.Rx, 10)
	if c.Name != "" {
		b = append(append(append(append(b, "  "...), c.Name...), ' '), c.NameSource.String()...)
	}
	if c.State.BeingClosed() {
		b = append(append(b, "  "...), c.State.String()...)
	}
	return append(b, '\n'), nil
}

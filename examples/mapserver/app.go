package main

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/monitor"
	"github.com/connmapgo/connmap/examples/mapserver/internal/paint"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/peernames"
	"github.com/connmapgo/connmap/internal/private"
	"github.com/connmapgo/connmap/internal/program"
	"github.com/connmapgo/connmap/internal/temp"
	"github.com/connmapgo/connmap/rules"
)

// An app is the running server: everything but the window.
type app struct {
	cfg      config
	log      *slog.Logger
	monitor  *monitor.Monitor
	identity *feed.Identity
	registry *feed.Registry
	listener net.Listener
	approve  bool                                             // take only agents that somebody has approved
	watches  []func(ctx context.Context, every time.Duration) // of the tables that openTables has opened
	opened   chan struct{}                                    // closed when the history can be asked, or there is none

	mu       sync.Mutex // guards what follows
	wake     func()     // of the window, if there is one
	rules    rulesSource
	hasRules bool           // rules of a file are in use
	closers  []func() error // last first

	cancel context.CancelFunc
	work   sync.WaitGroup
}

// start opens the files of the configuration and starts to collect, listen and record. It
// reports damaged files as problems and goes on without them. It fails only if the user must
// decide, for example if a port is in use.
func start(ctx context.Context, cfg config, log *slog.Logger) (*app, error) {
	a := &app{cfg: cfg, log: log, monitor: &monitor.Monitor{Names: cfg.names}, opened: make(chan struct{})}
	m := a.monitor
	m.Changed = a.changed
	m.SetRules(rules.Default())
	// First, because it is the most likely to fail.
	if err := a.listen(); err != nil {
		return nil, err
	}
	a.openTables()
	a.setHome()
	a.loadRules() // before openHistory, which gives them to the rows that it upgrades
	ctx, a.cancel = context.WithCancel(ctx)
	a.watchTables(ctx, tableEvery)
	m.Opening.Store(true)
	opened, slow := make(chan error, 1), make(chan struct{})
	a.work.Go(func() {
		opened <- a.openHistory(ctx, sync.OnceFunc(func() { close(slow) }))
	})
	select {
	case err := <-opened:
		if err != nil {
			a.cancel()
			if a.listener != nil {
				a.listener.Close()
			}
			return nil, err
		}
		a.serve(ctx)
	case <-slow:
		// The map need not wait: it shows live connections meanwhile.
		a.serve(ctx)
		a.work.Go(func() {
			if err := <-opened; err != nil {
				a.problem("history", err)
			}
		})
	}
	return a, nil
}

// serve accepts agents and collects this machine's connections.
func (a *app) serve(ctx context.Context) {
	m := a.monitor
	if a.listener != nil {
		s := &feed.Server{Identity: a.identity, Registry: a.registry, Handler: m, MaxAgents: a.cfg.agents, MaxFiles: int(min(program.MaxFiles(), math.MaxInt32)), Approve: a.approve, Name: a.localName(), NoNames: a.cfg.names == peernames.Off, Logger: a.log}
		a.work.Go(func() {
			if err := s.Serve(ctx, a.listener); err != nil && ctx.Err() == nil {
				a.problem("listen", fmt.Errorf("agents can no longer join: %w", err))
			}
		})
	}
	if err := a.watchLocal(ctx); err != nil {
		a.problem("local", fmt.Errorf("this machine's connections are not shown: %w", err))
	}
	a.work.Go(func() { m.Run(ctx) })
}

// stop ends everything, in an order in which nothing is lost.
func (a *app) stop() {
	a.cancel()
	a.work.Wait()
	a.close()
}

func (a *app) closeLater(f ...func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closers = append(a.closers, f...)
}

func (a *app) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		if err := a.closers[i](); err != nil {
			a.log.Error(err.Error())
		}
	}
}

// problem shows an error in the window and logs it. A later one with the same about replaces it.
func (a *app) problem(about string, err error) {
	a.monitor.Problem(about, err.Error())
	a.log.Warn(err.Error())
}

func (a *app) setHome() {
	m := a.monitor
	m.Home = a.cfg.home
	if m.Home.Precision == geoip.Unknown {
		if a.cfg.demo > 0 {
			m.Home = geoip.Place{Lat: 50.11, Lon: 8.68, Country: "DE", City: "Frankfurt am Main", Precision: geoip.City}
			return
		}
		home, how := findHome(m.Geo)
		if m.Home = home; how == "" {
			a.log.Warn("the place of this machine is unknown; set it with -home LAT,LON")
		} else {
			a.log.Info("home found", "lat", home.Lat, "lon", home.Lon, "by", how)
		}
	}
}

// openHistory opens the history, and tries again until it can be opened. It calls slow if this
// takes a while, for example to upgrade an older file; agents keep their events meanwhile. It
// fails only if another server records into the file, which two must not do.
func (a *app) openHistory(ctx context.Context, slow func()) error {
	allowQueries := sync.OnceFunc(func() { close(a.opened) })
	defer allowQueries()
	if a.cfg.history == "" {
		a.monitor.Opened(nil, nil)
		return nil
	}
	h, err := a.openFile(ctx, slow)
	if errors.Is(err, sqlite.ErrInUse) {
		return fmt.Errorf("%w; start with -history none to record nothing", err)
	}
	for said, wait := "", firstOpening; err != nil && ctx.Err() == nil; wait = min(2*wait, lastOpening) {
		if err.Error() != said {
			said = err.Error()
			a.problem("history", fmt.Errorf("%w; nothing is recorded until it can be opened", err))
		}
		allowQueries() // which get the same error
		slow()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		h, err = a.openFile(ctx, slow)
	}
	if err != nil {
		return nil // the server is ending: agents keep their events, which were not acknowledged
	}
	a.monitor.Problem("history", "")
	if a.cfg.keep != nil {
		if err := h.SetRetention(*a.cfg.keep); err != nil {
			a.problem("retention", err)
		}
	}
	w := h.Writer()
	a.closeLater(h.Close, w.Close)
	a.monitor.Opened(h, w)
	return nil
}

// slowOpening is how long the window waits for the history to open.
const slowOpening = time.Second

// How long openHistory waits between attempts.
const (
	firstOpening = time.Second
	lastOpening  = time.Minute
)

func (a *app) openFile(ctx context.Context, slow func()) (*sqlite.DB, error) {
	const meanwhile = "; meanwhile the map shows connections, and records them afterwards"
	a.monitor.Problem("opening", a.cfg.history+" is being opened"+meanwhile)
	defer a.monitor.Problem("opening", "")
	defer time.AfterFunc(slowOpening, slow).Stop()
	return sqlite.Open(ctx, a.cfg.history, sqlite.Options{
		Logger: a.log, Complete: complete(a.monitor.Rules(), a.monitor.Locate), Progress: func(done, total int64) {
			if done < total {
				a.monitor.Problem("opening", fmt.Sprintf("%s is being upgraded: %d %%", a.cfg.history, 100*done/max(1, total))+meanwhile)
				a.monitor.Publish()
				slow()
			}
		},
	})
}

// writeNew creates a file, and its folder if necessary. It fails if the file exists.
func writeNew(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name) // else a part of it would be read at the next start
	}
	return err
}

// safePassword is the minimum number of characters of a password for which there is no warning.
const safePassword = 8

func (a *app) listen() error {
	if a.cfg.listen == "" {
		return nil
	}
	for _, name := range []string{filepath.Join(a.cfg.configDir, "server-key.pem"), filepath.Join(a.cfg.configDir, "server-secret"), registryFile(a.cfg.configDir)} {
		notice, err := private.Restrict(name, private.Own)
		if err != nil && name == registryFile(a.cfg.configDir) { // LoadIdentity returns the others
			notice = err.Error()
		}
		if notice != "" {
			a.problem(filepath.Base(name), errors.New(notice))
		}
	}
	id, err := feed.LoadIdentity(a.cfg.configDir)
	if err != nil {
		a.problem("identity", fmt.Errorf("%w; until this is fixed no agent can join", err))
		return nil
	}
	if a.cfg.password != "" {
		if err := id.SetPassword(a.cfg.password); err != nil {
			a.problem("password", fmt.Errorf("no agent can join by password: %w", err))
		} else if n := utf8.RuneCountInString(a.cfg.password); n < safePassword {
			a.problem("password", fmt.Errorf("the password has only %s: whoever reaches the port can guess five times a minute, and much faster with a copy of server-key.pem; use %d or more, or tokens only",
				numbers.Count(n, "character", "characters"), safePassword))
		}
	}
	if key, ok := id.Certificate().PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > 2048 {
		a.log.Warn("the server's RSA key makes joining slow: if you remove server-key.pem and server-cert.pem, the server makes a faster key, but all agents then need the new token", "bits", key.N.BitLen())
	}
	if a.registry, err = feed.OpenRegistry(registryFile(a.cfg.configDir)); err != nil {
		a.problem("registry", fmt.Errorf("%w; until this is fixed no agent can join", err))
		return nil
	}
	if a.approve, err = a.cfg.approval(); err != nil {
		a.problem("approve", fmt.Errorf("the setting of -approve cannot be read or stored: %w; until it can, no agent can join", err))
		return nil
	}
	l, err := net.Listen("tcp", a.cfg.listen)
	if a.cfg.fallback && errors.Is(err, syscall.EADDRINUSE) {
		// Most likely connmapperl's server runs. Agents try both.
		other := fmt.Sprintf(":%d", feed.FallbackPort)
		if l, err = net.Listen("tcp", other); err == nil {
			a.log.Warn("the default port is in use; this server listens at another port, which agents try too", "in use", a.cfg.listen, "listening at", other)
		} else {
			a.cfg.listen += " and " + other
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("address %s is in use, perhaps by another mapserver; choose another port with -listen :PORT, or accept no agents with -listen none", a.cfg.listen)
	case err != nil:
		return fmt.Errorf("cannot listen on %s: %w; choose another address with -listen ADDRESS, or accept no agents with -listen none", a.cfg.listen, err)
	}
	a.identity, a.listener = id, l
	return nil
}

// A collector reports the connections of this machine, in this process or in another one.
type collector interface {
	feed.Source
	Info() conntrack.Info
}

// localName returns the name of this machine on the map; empty: it is not shown.
func (a *app) localName() string {
	if a.cfg.demo > 0 || a.cfg.noLocal {
		return ""
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// watchLocal feeds this machine's connections, or synthetic ones, to the monitor.
func (a *app) watchLocal(ctx context.Context) error {
	if a.cfg.demo > 0 {
		agent := feed.Agent{Name: "demo", Backend: "synthetic", Since: time.Now()}
		a.monitor.Join(agent)
		// All in one call, so that a picture taken early is always the same.
		a.monitor.Full(agent, conntracktest.Conns(a.cfg.demo, 1))
		a.work.Go(func() { a.monitor.Follow(ctx, agent, conntracktest.Source{N: a.cfg.demo, Seed: 1}) })
		return nil
	}
	if a.cfg.noLocal {
		return nil
	}
	var c collector = a.cfg.collector
	if a.cfg.collector == nil {
		own, err := conntrack.New(conntrack.Options{Loopback: a.cfg.loopback, Names: a.cfg.names != peernames.Off, Logger: a.log})
		if err != nil {
			return err
		}
		a.closeLater(own.Close)
		c = own
	} else if err := a.cfg.collector.start(ctx); err != nil {
		return err
	}
	info := c.Info()
	agent := feed.Agent{Name: a.localName(), Backend: string(info.Backend), Limited: info.Limited, Since: time.Now()}
	a.monitor.Join(agent)
	a.work.Go(func() {
		// A collector knows its limits only after its first pass.
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
			a.monitor.Limit(agent, c.Info().Limited)
		}
	})
	a.work.Go(func() {
		if err := a.monitor.Follow(ctx, agent, c); err != nil && ctx.Err() == nil {
			a.problem("local", fmt.Errorf("this machine's connections are no longer shown: %w", err))
		}
	})
	return nil
}

// changed wakes the window when there is a new state.
func (a *app) changed() {
	a.mu.Lock()
	wake := a.wake
	a.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// greet prints how agents join, and which history and rules are used.
func (a *app) greet(out io.Writer) {
	if a.listener != nil {
		greetAgents(out, a.listener.Addr().(*net.TCPAddr).AddrPort(), a.identity.Token(), isTerminal(out))
		if a.approve {
			fmt.Fprint(out, "New agents must be approved with mapserver agents approve; -approve=false turns this off.\n\n")
		}
	}
	if a.monitor.Opening.Load() {
		select {
		case <-a.opened:
			fmt.Fprintf(out, "Not yet recording to %s\n", a.cfg.history)
		default:
			fmt.Fprintf(out, "Upgrading %s\n", a.cfg.history)
		}
	} else if a.monitor.Writer != nil {
		fmt.Fprintf(out, "Recording to %s\n", a.cfg.history)
	}
	src := a.rulesSource()
	if src.name == "" {
		fmt.Fprintln(out, "Default rules")
	} else {
		fmt.Fprintf(out, "Rules in %s\n", src.name)
	}
	for _, note := range src.notes {
		fmt.Fprintf(out, "(%s)\n", note)
	}
}

// picture draws the scene that the window would show.
func (a *app) picture(out io.Writer) error {
	a.monitor.Publish()
	view := &mapview.View{Settings: mapview.Settings{Light: a.cfg.light}}
	view.Update(time.Now(), mapview.Input{Size: a.cfg.size, Scale: 1}, a.monitor.State())
	return paint.PNG(out, view.Scene())
}

// pngMark identifies pictures of this program: a text chunk of the PNG
// specification (https://www.w3.org/TR/png-3/#11textinfo).
const pngMark = "tEXtSoftware\x00connmap"

// withMark inserts pngMark into a picture, after the header.
func withMark(picture []byte) []byte {
	const header = 8 + 4 + 4 + 13 + 4 // the signature and a chunk of 13 bytes
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(pngMark)-4))
	chunk = append(chunk, pngMark...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE([]byte(pngMark)))
	return slices.Concat(picture[:header], chunk, picture[header:])
}

// checkReplaceable fails if a file exists that is no picture of this program.
func checkReplaceable(name string) error {
	return temp.Replaceable(name, "picture of connmap", func(head []byte) bool { return bytes.Contains(head, []byte(pngMark)) })
}

func (a *app) screenshot(ctx context.Context, stdout io.Writer) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(a.cfg.after):
	}
	var b bytes.Buffer
	err := a.picture(&b)
	if err == nil {
		err = checkReplaceable(a.cfg.screenshot)
	}
	if err == nil {
		err = os.WriteFile(a.cfg.screenshot, withMark(b.Bytes()), 0o644)
	}
	if err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	st := a.monitor.State()
	fmt.Fprintf(stdout, "%s: %s\n", a.cfg.screenshot, summary(st))
	return nil
}

// headless prints a summary of the state when it changes, until ctx ends.
func (a *app) headless(ctx context.Context, out io.Writer, why string) error {
	recorded := "recorded"
	switch {
	case a.monitor.Opening.Load():
		recorded = "not yet recorded"
	case a.monitor.Writer == nil:
		recorded = "not recorded"
	}
	fmt.Fprintf(out, "Running without a window: %s. Connections are collected and %s.\n"+
		"A picture of this machine's connections: mapserver -screenshot map.png\n", why, recorded)
	report := time.NewTimer(1500 * time.Millisecond)
	defer report.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
		}
		if s := summary(a.monitor.State()); s != last {
			fmt.Fprintf(out, "%s  %s\n", time.Now().Format("15:04:05"), s)
			last = s
		}
		report.Reset(time.Minute)
	}
}

// summary describes a state in one line.
func summary(st *live.State) string {
	countries, programs, open, unknown := map[string]bool{}, map[string]bool{}, 0, 0
	for _, c := range st.Conns {
		if c.State.BeingClosed() {
			continue
		}
		open++
		programs[c.Process.Comm] = true
		if c.Scope != live.Internet {
			continue
		}
		if c.Place.Precision == geoip.Unknown {
			unknown++
		} else {
			countries[c.Place.Country] = true
		}
	}
	// Unknown programs do not count, and a table of coordinates names no country.
	delete(programs, "")
	delete(countries, "")
	s := fmt.Sprintf("%s, %s of %s to %s", numbers.Count(len(st.Agents), "agent", "agents"), numbers.Count(open, "live connection", "live connections"),
		numbers.Count(len(programs), "program", "programs"), numbers.Count(len(countries), "country", "countries"))
	if unknown > 0 {
		s += fmt.Sprintf(", %d to unknown places", unknown)
	}
	return s
}

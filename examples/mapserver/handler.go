package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/asn/whois"
	"github.com/connmapgo/connmap/examples/mapserver/internal/clipboard"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/monitor"
	"github.com/connmapgo/connmap/examples/mapserver/internal/sound"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/temp"
)

// replayTime is how long the history takes to run through.
const replayTime = 30 * time.Second

// A clerk does for the window what takes time: it reads and writes files, and asks
// the history.
type clerk struct {
	*app
	ctx  context.Context // ends with the window
	beep *sound.Player
	work sync.WaitGroup
	jobs chan func() (said string, err error) // done one after another

	clipboard clipboard.Clipboard

	mu      sync.Mutex
	answers []mapview.Answer
	cancels map[int]context.CancelFunc // of questions under way, by number

	opening sync.Mutex
	whois   *whois.Sources // nil: not opened yet
}

func newClerk(ctx context.Context, a *app, beep *sound.Player) *clerk {
	c := &clerk{app: a, ctx: ctx, beep: beep, jobs: make(chan func() (string, error), 100), cancels: make(map[int]context.CancelFunc)}
	c.work.Go(func() {
		look := time.NewTicker(2 * time.Second)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case job := <-c.jobs:
				c.do(job)
			case <-look.C:
				a.offerRules()
			}
		}
	})
	return c
}

// close waits for what is under way, after the context has ended.
func (c *clerk) close() {
	c.clipboard.Close() // ends a reading whose other program takes its time
	c.work.Wait()
	c.clipboard.Close()
	if c.whois != nil {
		c.whois.Close()
	}
}

// answer has the window take in an answer.
func (c *clerk) answer(a mapview.Answer) {
	c.mu.Lock()
	c.answers = append(c.answers, a)
	c.mu.Unlock()
	c.changed()
}

func (c *clerk) say(text string) { c.answer(mapview.Said{Text: text}) }

// take returns the answers since the last call.
func (c *clerk) take() []mapview.Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.answers
	c.answers = nil
	return a
}

// handle sets going what the window asks for. It does not wait.
func (c *clerk) handle(e mapview.Effect) { e.Do(c) }

var _ mapview.Handler = (*clerk)(nil)

func (c *clerk) Beep() { c.beep.Play() }

func (c *clerk) Copy(e mapview.Copy) {
	c.useClipboard(func() (mapview.Answer, error) { return mapview.Said{Text: "copied"}, c.clipboard.Write(e.Text) })
}

func (c *clerk) Paste() {
	c.useClipboard(func() (mapview.Answer, error) {
		text, err := c.clipboard.Read()
		return mapview.Pasted{Text: text}, err
	})
}

func (c *clerk) ShowHistory(e mapview.ShowHistory) { c.monitor.ShowHistory(e.On) }

func (c *clerk) ShowAddrs(e mapview.ShowAddrs) { c.monitor.ShowAddrs(e.On) }

func (c *clerk) LookUp(e mapview.LookUp) {
	c.answer(mapview.Named{Ask: e.Ask, Text: c.monitor.Network(e.Addr)})
}

func (c *clerk) Whois(e mapview.Whois) {
	c.work.Go(func() { c.answer(mapview.Report{Ask: e.Ask, Text: c.report(e.Addr)}) })
}

func (c *clerk) FindNearby(e mapview.FindNearby) {
	c.question(e.Ask, func(ctx context.Context) {
		past, err := c.monitor.Nearby(ctx, e.Circle)
		c.found(e.Ask, past, err)
	})
}

func (c *clerk) FindFiltered(e mapview.FindFiltered) {
	c.question(e.Ask, func(ctx context.Context) {
		past, since, err := c.monitor.Search(ctx, e.Filter.Fits)
		f := mapview.Found{Ask: e.Ask, Past: past, Since: since, Full: len(past) == monitor.MostFound}
		if err != nil {
			f.Problem = err.Error()
		}
		c.answer(f)
	})
}

func (c *clerk) FindWithin(e mapview.FindWithin) {
	c.question(e.Ask, func(ctx context.Context) {
		past, err := c.monitor.Within(ctx, e.Prefix)
		c.found(e.Ask, past, err)
	})
}

func (c *clerk) FindFirst(e mapview.FindFirst) {
	c.question(e.Ask, func(ctx context.Context) {
		seen, count, err := c.monitor.First(ctx, e.Peer, e.Program)
		a := mapview.First{Ask: e.Ask, Seen: seen, Count: count}
		if err != nil {
			a.Problem = err.Error()
		}
		c.answer(a)
	})
}

func (c *clerk) WriteSQL(e mapview.WriteSQL) { c.answer(mapview.Written{SQL: sqlite.SQL(e.Of)}) }

func (c *clerk) RunQuery(e mapview.RunQuery) {
	c.question(e.Ask, func(ctx context.Context) { c.answer(c.query(ctx, e)) })
}

func (c *clerk) CancelQuery(e mapview.CancelQuery) { c.cancel(e.Ask) }

func (c *clerk) StartReplay(e mapview.StartReplay) {
	c.question(e.Ask, func(ctx context.Context) { c.replay(ctx, e.Ask) })
}

func (c *clerk) Export(e mapview.Export) {
	c.work.Go(func() {
		c.waitForHistory(c.ctx)
		c.export(e)
	})
}

func (c *clerk) ReloadRules() {
	c.queue(func() (string, error) {
		said, err := c.loadRules()
		if err != nil { // which is among the problems
			said = "the rules in use stay"
		}
		return said, nil
	})
}

func (c *clerk) ShowKept(e mapview.ShowKept) {
	c.queue(func() (string, error) { c.monitor.ShowKept(e.On); return "", nil })
}

func (c *clerk) SetRetention(e mapview.SetRetention) {
	c.queue(func() (string, error) { return "", c.monitor.SetRetention(e.Retention) })
}

func (c *clerk) ResetHistory() {
	c.queue(func() (string, error) { return "the stored history has been deleted", c.monitor.ResetHistory(c.ctx) })
}

func (c *clerk) SaveHistory() {
	c.queue(func() (string, error) { return c.saveMarks(c.ctx) })
}

func (c *clerk) LoadHistory() { c.queue(c.loadMarks) }

// queue has something done after what was queued before. The job returns what is said to the
// user.
func (c *clerk) queue(job func() (said string, err error)) {
	select {
	case c.jobs <- job:
	case <-c.ctx.Done():
	default:
		c.say("too much at once: wait a moment")
	}
}

// waitForHistory returns when the history can be asked or ctx ends. An older history may
// have to be taken over first.
func (c *clerk) waitForHistory(ctx context.Context) {
	select {
	case <-c.opened:
	case <-ctx.Done():
	}
}

// question asks the history, as soon as it can be asked. The window can cancel it.
func (c *clerk) question(ask int, run func(context.Context)) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	c.cancels[ask] = cancel
	c.mu.Unlock()
	c.work.Go(func() {
		defer c.cancel(ask)
		c.waitForHistory(ctx)
		run(ctx)
	})
}

func (c *clerk) cancel(ask int) {
	c.mu.Lock()
	cancel := c.cancels[ask]
	delete(c.cancels, ask)
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (c *clerk) found(ask int, past []live.Past, err error) {
	f := mapview.Found{Ask: ask, Past: past, Full: len(past) == monitor.MostFound}
	if err != nil {
		f.Problem = err.Error()
	}
	c.answer(f)
}

// do does a job, and says what came of it.
func (c *clerk) do(job func() (string, error)) {
	said, err := job()
	if err != nil {
		said = err.Error()
		c.log.Warn(said)
	}
	if said != "" {
		c.say(said)
	}
}

// useClipboard does something with the clipboard. It may wait for another program that
// does not answer: nobody waits for it.
func (c *clerk) useClipboard(do func() (mapview.Answer, error)) {
	c.work.Go(func() {
		a, err := do()
		if err != nil {
			a = mapview.Said{Text: "the clipboard does not work: " + err.Error()}
		}
		c.answer(a)
	})
}

// simpleHistory is the file of the counts of all places.
func (a *app) simpleHistory() string { return filepath.Join(a.cfg.dataDir, "places.txt") }

func (a *app) saveMarks(ctx context.Context) (string, error) {
	if err := os.MkdirAll(a.cfg.dataDir, 0o700); err != nil {
		return "", err
	}
	n, err := a.monitor.SaveMarks(ctx, a.simpleHistory())
	return fmt.Sprintf("%s saved in %s", numbers.Count(n, "place", "places"), a.simpleHistory()), err
}

func (a *app) loadMarks() (string, error) {
	n, err := a.monitor.LoadMarks(a.simpleHistory())
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is not there: s saves it", a.simpleHistory())
	}
	return fmt.Sprintf("%s loaded from %s", numbers.Count(n, "place", "places"), a.simpleHistory()), err
}

// report is the whois report on an address. What it is made of is opened when it is
// asked for first.
func (c *clerk) report(addr netip.Addr) string {
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.whois == nil {
		f := whois.Files{Data: c.cfg.dataDir, Cache: c.cfg.cacheDir, Geo: c.cfg.geo, Places: geoembedded.DB(), Networks: asnembedded.DB()}
		if c.cfg.asn != "" {
			f.ASN = []string{c.cfg.asn}
		}
		s, err := f.Open(func(warning string) { c.log.Warn("whois: " + warning) })
		if err != nil {
			// A file that is named and damaged has been told of at the start.
			c.log.Warn("whois: " + err.Error())
			f.Geo, f.ASN = "", nil
			if s, err = f.Open(func(string) {}); err != nil {
				return err.Error()
			}
		}
		c.whois = s
	}
	r, err := c.whois.Report(addr)
	var text strings.Builder
	if !r.IsZero() {
		r.WriteText(&text)
	}
	if err != nil {
		fmt.Fprintf(&text, "%s\n", err)
	}
	return text.String()
}

// console opens the history for questions. Each sees the file that is recorded into now:
// after damage that is another one.
func (c *clerk) console() (history.Console, error) {
	if err := c.monitor.Unrecorded(); err != nil {
		return nil, err
	}
	return sqlite.OpenConsole(c.ctx, c.cfg.history, sqlite.ConsoleOptions{Rule: c.monitor.Label})
}

func (c *clerk) query(ctx context.Context, e mapview.RunQuery) mapview.Answered {
	a := mapview.Answered{Ask: e.Ask, Offset: -1}
	t, err := func() (*history.Table, error) {
		console, err := c.console()
		if err != nil {
			return nil, err
		}
		defer console.Close()
		return console.Ask(ctx, history.Question{SQL: e.SQL})
	}()
	var mistake *history.QueryError
	switch {
	case err == nil:
		a.Table = *t
		a.Labels, a.Places = c.monitor.OnMap(t)
	case ctx.Err() != nil:
		a.Problem = "cancelled"
	case errors.As(err, &mistake):
		a.Problem, a.Offset = mistake.Msg, mistake.Offset
	default:
		a.Problem = err.Error()
	}
	return a
}

// export writes the whole answer to a question into a file of its own.
func (c *clerk) export(e mapview.Export) {
	name := filepath.Join(c.cfg.dataDir, "exports", "connmap-"+time.Now().Format("20060102-150405")+"."+e.Format)
	c.say("writing " + name)
	name, n, err := c.exportTo(name, e)
	if err != nil {
		c.say("export: " + err.Error())
		return
	}
	c.say(fmt.Sprintf("%s written to %s", numbers.Count(n, "row", "rows"), name))
}

// exportTo returns the name that the file has got: another one if there is one by that name.
func (c *clerk) exportTo(name string, e mapview.Export) (as string, n int, err error) {
	console, err := c.console()
	if err != nil {
		return "", 0, err
	}
	defer console.Close()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", 0, err
	}
	f, err := temp.Create(filepath.Dir(name), filepath.Base(name)+".*.part")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(f.Name()) // half an answer is none
	w, err := history.NewRowWriter(e.Format, "", f)
	if err == nil {
		_, err = console.Each(c.ctx, history.Question{SQL: e.SQL, Timeout: exportTimeout, MaxRows: -1, MaxBytes: -1}, w.Begin, func(row []any) error {
			n++
			return w.Row(row)
		})
	}
	if err == nil {
		err = w.End()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", n, err
	}
	as = name
	for i := 2; ; i++ {
		if err := temp.Place(f.Name(), as); !errors.Is(err, fs.ErrExist) {
			return as, n, err
		}
		ending := filepath.Ext(name)
		as = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ending), i, ending)
	}
}

func (c *clerk) replay(ctx context.Context, ask int) {
	var last mapview.Replayed
	err := c.monitor.Replay(ctx, replayTime, func(events []live.Event, at time.Time, share float64) {
		last = mapview.Replayed{Ask: ask, At: at, Share: share}
		now := last
		now.Events = events
		c.answer(now)
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.answer(mapview.Replayed{Ask: ask, Text: err.Error()})
	default:
		last.Done = true
		c.answer(last)
	}
}

// savedQueries are those of the history, with their parameters as values.
func savedQueries() []history.SavedQuery {
	list := sqlite.SavedQueries()
	for i, q := range list {
		list[i] = sqlite.Filled(q)
	}
	return list
}

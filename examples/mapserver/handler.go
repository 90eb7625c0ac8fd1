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

// replayTime is how long a replay of the whole history takes.
const replayTime = 30 * time.Second

// A handler carries out the effects of the window that take time: it reads and writes
// files, and queries the history. Its methods return at once; the results are answers.
type handler struct {
	*app
	ctx  context.Context // ends with the window
	beep *sound.Player
	work sync.WaitGroup
	jobs chan func() (said string, err error) // run one after another

	clipboard clipboard.Clipboard

	mu      sync.Mutex
	answers []mapview.Answer
	cancels map[int]context.CancelFunc // of running queries, by the number of the question

	whoisMu sync.Mutex
	whois   *whois.Sources // nil until the first report
}

func newHandler(ctx context.Context, a *app, beep *sound.Player) *handler {
	h := &handler{app: a, ctx: ctx, beep: beep, jobs: make(chan func() (string, error), 100), cancels: make(map[int]context.CancelFunc)}
	h.work.Go(func() {
		look := time.NewTicker(2 * time.Second)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case job := <-h.jobs:
				h.runJob(job)
			case <-look.C:
				a.offerRules()
			}
		}
	})
	return h
}

// close waits for all that still runs. The context must have ended.
func (h *handler) close() {
	h.clipboard.Close() // ends a Read for which another program has no answer
	h.work.Wait()
	h.clipboard.Close()
	if h.whois != nil {
		h.whois.Close()
	}
}

// answer hands an answer to the window.
func (h *handler) answer(a mapview.Answer) {
	h.mu.Lock()
	h.answers = append(h.answers, a)
	h.mu.Unlock()
	h.changed()
}

func (h *handler) say(text string) { h.answer(mapview.Said{Text: text}) }

// takeAnswers returns the answers since the last call.
func (h *handler) takeAnswers() []mapview.Answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.answers
	h.answers = nil
	return a
}

// handle carries out an effect. It does not wait for the result.
func (h *handler) handle(e mapview.Effect) { e.Do(h) }

var _ mapview.Handler = (*handler)(nil)

func (h *handler) Beep() { h.beep.Play() }

func (h *handler) Copy(e mapview.Copy) {
	h.useClipboard(func() (mapview.Answer, error) { return mapview.Said{Text: "copied"}, h.clipboard.Write(e.Text) })
}

func (h *handler) Paste() {
	h.useClipboard(func() (mapview.Answer, error) {
		text, err := h.clipboard.Read()
		return mapview.Pasted{Text: text}, err
	})
}

func (h *handler) ShowHistory(e mapview.ShowHistory) { h.monitor.ShowHistory(e.On) }

func (h *handler) ShowAddrs(e mapview.ShowAddrs) { h.monitor.ShowAddrs(e.On) }

func (h *handler) LookUp(e mapview.LookUp) {
	h.answer(mapview.Named{Ask: e.Ask, Text: h.monitor.Network(e.Addr)})
}

func (h *handler) Whois(e mapview.Whois) {
	h.work.Go(func() { h.answer(mapview.Report{Ask: e.Ask, Text: h.report(e.Addr)}) })
}

func (h *handler) FindNearby(e mapview.FindNearby) {
	h.ask(e.Ask, func(ctx context.Context) {
		past, err := h.monitor.Nearby(ctx, e.Circle)
		h.answerFound(e.Ask, past, err)
	})
}

func (h *handler) FindFiltered(e mapview.FindFiltered) {
	h.ask(e.Ask, func(ctx context.Context) {
		past, since, err := h.monitor.Search(ctx, e.Filter.Fits)
		f := mapview.Found{Ask: e.Ask, Past: past, Since: since, Full: len(past) == monitor.MaxFound}
		if err != nil {
			f.Problem = err.Error()
		}
		h.answer(f)
	})
}

func (h *handler) FindWithin(e mapview.FindWithin) {
	h.ask(e.Ask, func(ctx context.Context) {
		past, err := h.monitor.Within(ctx, e.Prefix)
		h.answerFound(e.Ask, past, err)
	})
}

func (h *handler) FindFirst(e mapview.FindFirst) {
	h.ask(e.Ask, func(ctx context.Context) {
		seen, count, err := h.monitor.First(ctx, e.Peer, e.Program)
		a := mapview.First{Ask: e.Ask, Seen: seen, Count: count}
		if err != nil {
			a.Problem = err.Error()
		}
		h.answer(a)
	})
}

func (h *handler) WriteSQL(e mapview.WriteSQL) { h.answer(mapview.Written{SQL: sqlite.SQL(e.Of)}) }

func (h *handler) RunQuery(e mapview.RunQuery) {
	h.ask(e.Ask, func(ctx context.Context) { h.answer(h.query(ctx, e)) })
}

func (h *handler) CancelQuery(e mapview.CancelQuery) { h.cancel(e.Ask) }

func (h *handler) StartReplay(e mapview.StartReplay) {
	h.ask(e.Ask, func(ctx context.Context) { h.replay(ctx, e.Ask) })
}

func (h *handler) Export(e mapview.Export) {
	h.work.Go(func() {
		h.waitForHistory(h.ctx)
		h.export(e)
	})
}

func (h *handler) ReloadRules() {
	h.queue(func() (string, error) {
		said, err := h.loadRules()
		if err != nil { // the window lists it as a problem
			said = h.rulesStay()
		}
		return said, nil
	})
}

func (h *handler) ShowStats(e mapview.ShowStats) {
	h.queue(func() (string, error) { h.monitor.ShowStats(e.On); return "", nil })
}

func (h *handler) SetRetention(e mapview.SetRetention) {
	h.queue(func() (string, error) { return "", h.monitor.SetRetention(e.Retention) })
}

func (h *handler) ResetHistory() {
	h.queue(func() (string, error) { return "the stored history has been deleted", h.monitor.ResetHistory(h.ctx) })
}

func (h *handler) SaveHistory() {
	h.queue(func() (string, error) { return h.saveMarks(h.ctx) })
}

func (h *handler) LoadHistory() { h.queue(h.loadMarks) }

// queue adds a job, which runs after those queued before. It returns a message for the user.
func (h *handler) queue(job func() (said string, err error)) {
	select {
	case h.jobs <- job:
	case <-h.ctx.Done():
	default:
		h.say("too many commands are waiting: try again in a moment")
	}
}

// waitForHistory returns when the history can be queried or ctx ends. An older file may have
// to be upgraded first.
func (h *handler) waitForHistory(ctx context.Context) {
	select {
	case <-h.opened:
	case <-ctx.Done():
	}
}

// ask runs a query as soon as the history is open. The window can cancel it.
func (h *handler) ask(ask int, run func(context.Context)) {
	ctx, cancel := context.WithCancel(h.ctx)
	h.mu.Lock()
	h.cancels[ask] = cancel
	h.mu.Unlock()
	h.work.Go(func() {
		defer h.cancel(ask)
		h.waitForHistory(ctx)
		run(ctx)
	})
}

func (h *handler) cancel(ask int) {
	h.mu.Lock()
	cancel := h.cancels[ask]
	delete(h.cancels, ask)
	h.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (h *handler) answerFound(ask int, past []live.Past, err error) {
	f := mapview.Found{Ask: ask, Past: past, Full: len(past) == monitor.MaxFound}
	if err != nil {
		f.Problem = err.Error()
	}
	h.answer(f)
}

// runJob runs a job and shows its message or its error.
func (h *handler) runJob(job func() (string, error)) {
	said, err := job()
	if err != nil {
		said = err.Error()
		h.log.Warn(said)
	}
	if said != "" {
		h.say(said)
	}
}

// useClipboard runs do in a goroutine of its own: the other program may not answer.
func (h *handler) useClipboard(do func() (mapview.Answer, error)) {
	h.work.Go(func() {
		a, err := do()
		if err != nil {
			a = mapview.Said{Text: "the clipboard cannot be used: " + err.Error()}
		}
		h.answer(a)
	})
}

// placesFile is where the counts of all places are saved: beside the history.
func (a *app) placesFile() string {
	if a.cfg.history != "" {
		return filepath.Join(filepath.Dir(a.cfg.history), "places.txt")
	}
	return filepath.Join(a.cfg.dataDir, "places.txt")
}

func (a *app) saveMarks(ctx context.Context) (string, error) {
	if err := os.MkdirAll(filepath.Dir(a.placesFile()), 0o700); err != nil {
		return "", err
	}
	n, err := a.monitor.SaveMarks(ctx, a.placesFile())
	return fmt.Sprintf("%s saved in %s", numbers.Count(n, "place", "places"), a.placesFile()), err
}

func (a *app) loadMarks() (string, error) {
	n, err := a.monitor.LoadMarks(a.placesFile())
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s does not exist: press s to save it", a.placesFile())
	}
	return fmt.Sprintf("%s loaded from %s", numbers.Count(n, "place", "places"), a.placesFile()), err
}

// report returns the whois report on an address. The first call opens the files it is made of.
func (h *handler) report(addr netip.Addr) string {
	h.whoisMu.Lock()
	defer h.whoisMu.Unlock()
	if h.whois == nil {
		f := whois.Files{Data: h.cfg.dataDir, Cache: h.cfg.cacheDir, Geo: h.cfg.geo, ASN: h.cfg.asn, Places: geoembedded.DB(), Networks: asnembedded.DB()}
		for _, p := range h.cfg.nat64 {
			f.NAT64 = append(f.NAT64, p.String())
		}
		s, err := f.Open(func(warning string) { h.log.Warn("whois: " + warning) })
		if err != nil {
			// A damaged file that was named was reported at the start.
			h.log.Warn("whois: " + err.Error())
			f.Geo, f.ASN = nil, nil
			if s, err = f.Open(func(string) {}); err != nil {
				return err.Error()
			}
		}
		h.whois = s
	}
	r, err := h.whois.Report(addr)
	var text strings.Builder
	if !r.IsZero() {
		r.WriteText(&text)
	}
	names, namesErr := h.monitor.PeerNames(h.ctx, addr)
	for _, n := range names {
		fmt.Fprintf(&text, "    Asked for as  %s", n.Name)
		if n.Programs != nil {
			fmt.Fprintf(&text, " by %s", strings.Join(n.Programs, ", "))
		}
		fmt.Fprintf(&text, ", seen %s\n", n.Seen.UTC().Format(time.DateTime+" MST"))
	}
	if namesErr != nil {
		fmt.Fprintf(&text, "%s\n", namesErr)
	}
	if err != nil {
		fmt.Fprintf(&text, "%s\n", err)
	}
	return text.String()
}

// console opens the history for one query. It opens it anew each time, since the recorder
// starts another file when one is damaged.
func (h *handler) console() (history.Console, error) {
	if err := h.monitor.Unrecorded(); err != nil {
		return nil, err
	}
	return sqlite.OpenConsole(h.ctx, h.cfg.history, sqlite.ConsoleOptions{Rule: h.monitor.Label})
}

func (h *handler) query(ctx context.Context, e mapview.RunQuery) mapview.Answered {
	a := mapview.Answered{Ask: e.Ask, Offset: -1}
	t, err := func() (*history.Table, error) {
		console, err := h.console()
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
		a.Labels, a.Places = h.monitor.OnMap(t)
	case ctx.Err() != nil:
		a.Problem = "cancelled"
	case errors.As(err, &mistake):
		a.Problem, a.Offset = mistake.Msg, mistake.Offset
	default:
		a.Problem = err.Error()
	}
	return a
}

// export writes the whole result of a query into a new file.
func (h *handler) export(e mapview.Export) {
	name := filepath.Join(h.cfg.dataDir, "exports", "connmap-"+time.Now().Format("20060102-150405")+"."+e.Format)
	h.say("writing " + name)
	name, n, err := h.exportTo(name, e)
	if err != nil {
		h.say("export: " + err.Error())
		return
	}
	h.say(fmt.Sprintf("%s written to %s", numbers.Count(n, "row", "rows"), name))
}

// exportTo returns the name of the file, which differs from name if that exists already.
func (h *handler) exportTo(name string, e mapview.Export) (as string, n int, err error) {
	console, err := h.console()
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
	defer os.Remove(f.Name()) // of a result that is not complete
	w, err := history.NewRowWriter(e.Format, "", f)
	if err == nil {
		_, err = console.Each(h.ctx, history.Question{SQL: e.SQL, Timeout: exportTimeout, MaxRows: -1, MaxBytes: -1}, w.Begin, func(row []any) error {
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

func (h *handler) replay(ctx context.Context, ask int) {
	var last mapview.Replayed
	err := h.monitor.Replay(ctx, replayTime, func(events []live.Event, at time.Time, share float64) {
		last = mapview.Replayed{Ask: ask, At: at, Share: share}
		now := last
		now.Events = events
		h.answer(now)
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		h.answer(mapview.Replayed{Ask: ask, Text: err.Error()})
	default:
		last.Done = true
		h.answer(last)
	}
}

// savedQueries returns the saved queries with values in place of their parameters.
func savedQueries() []history.SavedQuery {
	list := sqlite.SavedQueries()
	for i, q := range list {
		list[i] = sqlite.Filled(q)
	}
	return list
}

package mapview

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/history"
)

const firstQuery = "SELECT ip FROM detailed_history"

func answered(ask int) Answered {
	nan := [2]float64{math.NaN(), math.NaN()}
	return Answered{Ask: ask, Offset: -1, Table: history.Table{
		Columns: []history.Column{{Name: "ip"}, {Name: "count", Type: "integer"}, {Name: "what"}},
		Rows: [][]any{
			{"192.0.2.9", int64(30), "b"},
			{"192.0.2.1", 4.5, nil},
			{"192.0.2.5", nil, []byte{1, 255}},
			{"192.0.2.7", "text", "a\n\tc"},
		},
		Elapsed: 18 * time.Millisecond,
	}, Labels: []string{"Mail", "", "Web", "gone"}, Places: [][2]float64{{paris.Lat, paris.Lon}, nan, {paris.Lat, paris.Lon}, {rio.Lat, rio.Lon}}}
}

// asked opens the panel and runs its question.
func asked(t *testing.T) (*View, RunQuery) {
	v := &View{FirstQuery: firstQuery}
	assert.Empty(t, v.Update(noon, frame("q"), state()))
	e := v.Update(noon, press(ui.Ctrl|ui.KeyEnter), v.st)
	require.Len(t, e, 1)
	return v, e[0].(RunQuery)
}

// TestEditorShowsWhatFits: a long line that was typed leaves nothing scrolled out of a
// short one that takes its place.
func TestEditorShowsWhatFits(t *testing.T) {
	v := &View{}
	v.Update(noon, frame("q"), state())
	v.Update(noon, press(ui.Ctrl|'a'), v.st)
	v.Update(noon, frame("SELECT '"+strings.Repeat("long ", 60)), v.st)
	assert.NotContains(t, texts(v), "SELECT")
	v.Update(noon, press(ui.Ctrl|'a'), v.st)
	v.Update(noon, frame("SELECT 1 FROM detailed_history"), v.st)
	assert.Contains(t, texts(v), "SELECT")
}

func hand(v *View, a ...Answer) []Effect {
	in := frame("")
	in.Answers = a
	return v.Update(noon, in, v.st)
}

func TestSQLAnswer(t *testing.T) {
	v, q := asked(t)
	assert.Equal(t, firstQuery, q.SQL)
	assert.Equal(t, []string{firstQuery}, v.Queries)
	assert.Contains(t, texts(v), "running, 0.0 s\n")
	assert.False(t, v.Next().IsZero(), "the time goes on")
	assert.Empty(t, v.Update(noon.Add(1500*time.Millisecond), press(ui.Ctrl|ui.KeyEnter), v.st), "one at a time")
	assert.Contains(t, texts(v), "running, 1.5 s\n")
	hand(v, Answered{Ask: q.Ask + 1, Problem: "another's"}, answered(q.Ask))
	shown := texts(v)
	assert.NotContains(t, shown, "another's")
	assert.Contains(t, shown, "4 rows · 18 ms\n")
	assert.Contains(t, shown, "192.0.2.9\n30\nb\n192.0.2.1\n4.5\n192.0.2.5\nx'01ff'\n192.0.2.7\ntext\na  c\n", "in the order of the question")
	x, y := at(t, v, "count")
	v.Update(noon, click(x, y), v.st)
	assert.Regexp(t, `(?s)192.0.2.5\n.*192.0.2.1\n.*192.0.2.9\n.*192.0.2.7\n`, texts(v), "NULL, numbers, text")
	// A click on an address opens its report.
	x, y = at(t, v, "192.0.2.1")
	e := v.Update(noon, click(x, y), v.st)
	require.Len(t, e, 1)
	assert.Equal(t, "192.0.2.1", e[0].(Whois).Addr.String())
}

func TestSQLRows(t *testing.T) {
	v, q := asked(t)
	hand(v, answered(q.Ask))
	r := v.sql().result
	assert.Equal(t, green.Color, r.Color(0))
	assert.Zero(t, r.Color(1))
	assert.Zero(t, r.Color(3), "a rule that is no more")
	for a := range 4 {
		for b := range 4 {
			for c := range 3 {
				assert.Equal(t, r.Compare(a, b, c), -r.Compare(b, a, c))
			}
		}
	}
}

func TestSQLCancel(t *testing.T) {
	v, q := asked(t)
	x, y := at(t, v, "Cancel")
	assert.Equal(t, []Effect{CancelQuery{q.Ask}}, v.Update(noon, click(x, y), v.st))
	hand(v, Answered{Ask: q.Ask, Problem: "cancelled", Offset: -1})
	assert.Contains(t, texts(v), "cancelled\n")
	assert.Contains(t, texts(v), "Run Ctrl+Enter\n")
}

func TestSQLMistake(t *testing.T) {
	v, q := asked(t)
	p := v.sql()
	hand(v, answered(q.Ask))
	p.load("SELECT x\nFROM nothing")
	e := v.Update(noon, press(ui.Ctrl|ui.KeyEnter), v.st)
	hand(v, Answered{Ask: e[0].(RunQuery).Ask, Problem: "no such table", Offset: 14})
	assert.Contains(t, texts(v), "no such table\n")
	marked := func() bool {
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Rect && i.Color == v.theme.Wrong {
				return true
			}
		}
		return false
	}
	assert.True(t, marked())
	v.Update(noon, press('x'), v.st)
	assert.False(t, marked(), "it may have moved")
	// An offset beyond the text is not trusted.
	e = v.Update(noon, press(ui.Ctrl|ui.KeyEnter), v.st)
	hand(v, Answered{Ask: e[0].(RunQuery).Ask, Problem: "no", Offset: 1 << 30})
	// The answer before is not plotted in its place.
	p.result.Rows = [][]any{{"203.0.113.1"}}
	x, y := at(t, v, "Plot on map")
	v.Update(noon, click(x, y), v.st)
	assert.Empty(t, v.plots.list)
	assert.Contains(t, texts(v), "the last question failed: there is nothing to plot")
}

func TestSQLMenus(t *testing.T) {
	v := &View{Saved: []history.SavedQuery{{Name: "alive", About: "what is alive", SQL: "SELECT 1"}, {Name: "newest", About: "what is new", SQL: "SELECT 2"}}}
	v.Update(noon, frame("q"), state())
	push := func(label string) {
		x, y := at(t, v, label)
		v.Update(noon, click(x, y), v.st)
		v.Update(noon, mouse(x, y), v.st)
	}
	push("Saved")
	assert.Contains(t, texts(v), "alive\nwhat is alive\nnewest\nwhat is new\n")
	push("what is new")
	assert.Equal(t, "SELECT 2", v.sql().editor.Text())
	assert.NotContains(t, texts(v), "what is alive")
	push("Previous")
	assert.Contains(t, texts(v), "none yet\n")
	push("Previous")
	run := func() {
		v.Update(noon, press(ui.Ctrl|ui.KeyEnter), v.st)
		hand(v, Answered{Ask: v.requests.last})
	}
	run()
	v.sql().load("SELECT 3")
	run()
	push("Previous")
	assert.Contains(t, texts(v), "SELECT 3\nSELECT 2\n", "the newest first")
	assert.Equal(t, []string{"SELECT 2", "SELECT 3"}, v.Queries)
	v.Update(noon, press(ui.KeyEscape), v.st)
	assert.NotNil(t, v.panels.Find("sql"), "Esc closes the menu first")
	push("Previous")
	push("SELECT 2")
	run()
	assert.Equal(t, []string{"SELECT 3", "SELECT 2"}, v.Queries, "each once")
	for i := range 100 {
		v.sql().load(fmt.Sprint("SELECT ", i))
		run()
	}
	assert.Len(t, v.Queries, maxQueries)
}

func TestSQLKeepsItsText(t *testing.T) {
	v := &View{}
	v.Update(noon, frame("q"), state())
	v.Update(noon, press(ui.Ctrl|'a', ui.KeyDelete), v.st)
	assert.Empty(t, v.Update(noon, frame("qhtr?"), v.st), "keys are letters")
	v.Update(noon, press(ui.KeyEscape), v.st)
	assert.Nil(t, v.panels.Find("sql"))
	v.Update(noon, frame("q"), v.st)
	assert.Equal(t, "qhtr?", v.sql().editor.Text())
	hand(v, Pasted{"SELECT 1"})
	assert.Equal(t, "qhtr?SELECT 1", v.sql().editor.Text())
	v.Update(noon, click(5, 250), v.st)
	v.Update(noon, frame("/"), v.st)
	hand(v, Pasted{"app:x\ny"})
	assert.Equal(t, "app:xy", v.filter.text, "what is pasted goes where one types")
	hand(v, Written{SQL: "SELECT 9"})
	assert.Equal(t, "SELECT 9", v.sql().editor.Text())
	v.sql().editor.Key(ui.Ctrl | 'z')
	assert.Equal(t, "qhtr?SELECT 1", v.sql().editor.Text(), "what was there can be had back")
}

func TestExport(t *testing.T) {
	v := &View{FirstQuery: firstQuery}
	v.Update(noon, frame("q"), state())
	for label, format := range map[string]string{"CSV": "csv", "JSON": "json"} {
		x, y := at(t, v, label)
		assert.Equal(t, []Effect{Export{SQL: firstQuery, Format: format}}, v.Update(noon, click(x, y), v.st))
		v.Update(noon, mouse(x, y), v.st)
	}
}

// triangles counts the filled triangles and returns the last one.
func triangles(v *View) (n int, last ui.Item) {
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Triangle && i.W == 0 {
			n++
			last = i
		}
	}
	return n, last
}

func TestPlot(t *testing.T) {
	v, q := asked(t)
	v.Update(noon, frame(""), v.st)
	x, y := at(t, v, "Plot on map")
	v.Update(noon, click(x, y), v.st)
	assert.Contains(t, texts(v), "no row of the answer has a place")
	hand(v, answered(q.Ask))
	x, y = at(t, v, "Plot on map")
	v.Update(noon, click(x, y), v.st)
	n, _ := triangles(v)
	assert.Equal(t, 2, n, "each place once")
	outlines := 0
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Triangle && i.W > 0 && i.Color == white {
			outlines++
		}
	}
	assert.Equal(t, 2, outlines)
	assert.True(t, v.Next().After(noon))
	v.Update(noon.Add(14*time.Second), frame(""), v.st)
	n, _ = triangles(v)
	assert.Equal(t, 2, n)
	v.Update(noon.Add(plotTime), frame(""), v.st)
	n, _ = triangles(v)
	assert.Zero(t, n, "after 15 s")
	// Kept until they are cleared.
	x, y = at(t, v, "Plot on map")
	v.Update(noon, click(x, y), v.st)
	v.Update(noon, mouse(x, y), v.st)
	x, y = at(t, v, "Keep")
	v.Update(noon, click(x, y), v.st)
	v.Update(noon, mouse(x, y), v.st)
	at(t, v, "Clear")
	v.Update(noon.Add(time.Hour), click(5, 250), v.st)
	n, _ = triangles(v)
	assert.Equal(t, 2, n)
	v.say("2 places plotted")
	v.Update(noon.Add(time.Hour), frame("x"), v.st)
	n, _ = triangles(v)
	assert.Zero(t, n)
	assert.Empty(t, v.toast.text, "what was said of them is gone too")
	v.Update(noon.Add(time.Hour), frame("x"), v.st)
	assert.Contains(t, texts(v), "nothing is plotted")
}

func TestReplay(t *testing.T) {
	var v View
	st := state()
	e := v.Update(noon, frame("g"), st)
	require.Equal(t, []Effect{StartReplay{Ask: 1}}, e)
	assert.Contains(t, texts(&v), "replay\ng or Esc stops\n")
	event := func(p geoip.Place, rule int) live.Event {
		return live.Event{Lat: p.Lat, Lon: p.Lon, Label: map[int]string{0: "Web", 1: "Mail"}[rule]}
	}
	at := noon.Add(-30 * day)
	hand(&v, Replayed{Ask: 9, Events: []live.Event{event(rio, 0)}}, Replayed{Ask: 1, At: at, Share: 0.25, Events: []live.Event{event(paris, 0), event(paris, 1), event(rio, -1)}})
	n, _ := triangles(&v)
	assert.Equal(t, 2, n)
	assert.Contains(t, texts(&v), "replay · 2026-01-30 12:00 UTC · 3\n")
	assert.False(t, v.Next().IsZero())
	// Each fades over two seconds.
	alpha := func() uint8 { _, i := triangles(&v); return i.Color.A }
	a0 := alpha()
	v.Update(noon.Add(time.Second), frame(""), st)
	assert.InDelta(t, float64(a0)/2, float64(alpha()), 2)
	v.Update(noon.Add(replayFade), frame(""), st)
	n, _ = triangles(&v)
	assert.Zero(t, n)
	// The end: the last ones fade, then all is as before.
	in := frame("")
	in.Answers = []Answer{Replayed{Ask: 1, At: noon, Share: 1, Done: true, Events: []live.Event{event(rio, 0)}}}
	v.Update(noon.Add(3*time.Second), in, st)
	n, _ = triangles(&v)
	assert.Equal(t, 1, n)
	v.Update(noon.Add(6*time.Second), frame(""), st)
	v.Update(noon.Add(6*time.Second), frame(""), st)
	assert.NotContains(t, texts(&v), "replay")
	assert.True(t, v.Next().IsZero(), "nothing is drawn when nothing changes")
	// g stops it, and what comes late is not shown.
	v.Update(noon.Add(time.Minute), frame("g"), st)
	assert.Equal(t, []Effect{CancelQuery{Ask: 2}}, v.Update(noon.Add(time.Minute), frame("g"), st))
	hand(&v, Replayed{Ask: 2, Events: []live.Event{event(rio, 0)}})
	n, _ = triangles(&v)
	assert.Zero(t, n)
	// Why there is none.
	v.Update(noon, frame("g"), st)
	hand(&v, Replayed{Ask: 3, Text: "nothing is recorded"})
	assert.Contains(t, texts(&v), "nothing is recorded")
	// Very many places are bounded.
	v.Update(noon, frame("g"), st)
	var many []live.Event
	for i := range 100_000 {
		many = append(many, live.Event{Lat: float64(i%170) - 85, Lon: float64(i%359) - 179, Label: "Web"})
	}
	hand(&v, Replayed{Ask: 4, Events: many})
	assert.LessOrEqual(t, len(v.replay.spots), maxReplays)
}

func TestLines(t *testing.T) {
	var v View
	lines := func() (n int, wide float32) {
		for _, i := range v.Scene().Items {
			if i.Shape == ui.Line && !v.bar.box.Contains(float64(i.X), float64(i.Y)) {
				n++
				wide = max(wide, i.W)
			}
		}
		return n, wide
	}
	c := conn(1, rio, 0)
	v.Update(noon, frame(""), state(c))
	n, _ := lines()
	require.Zero(t, n)
	v.Update(noon, frame("o"), state(c))
	n, thin := lines()
	assert.Greater(t, n, 10, "dashes")
	busy := *c
	busy.RxRate, busy.Counted = 50e6, live.StampOf(noon)
	v.Update(noon, frame(""), state(&busy))
	_, wide := lines()
	assert.Greater(t, wide, thin)
	busy.Counted = live.StampOf(noon.Add(-time.Minute))
	v.Update(noon, frame(""), state(&busy))
	_, wide = lines()
	assert.Equal(t, thin, wide, "a rate of long ago is none")
	v.Update(noon, frame("o"), state(c))
	n, _ = lines()
	assert.Zero(t, n)
	// Nothing from nowhere, or to home.
	st := state(c, conn(2, geoip.Place{}, 0))
	st.Home = geoip.Place{}
	v.Update(noon, frame("o"), st)
	n, _ = lines()
	assert.Zero(t, n)
	assert.InDelta(t, 1, lineWidth(0), 1e-9)
	assert.InDelta(t, 2.6, lineWidth(1e12), 1e-9)
}

func TestDirectionOfTraffic(t *testing.T) {
	in, out := conn(1, rio, 0), conn(2, rio, 0)
	in.Direction = conntrack.In
	_, outward := traffic(noon, []*live.Conn{in})
	assert.False(t, outward, "opened from there")
	_, outward = traffic(noon, []*live.Conn{out})
	assert.True(t, outward)
	in.TxRate, in.RxRate, in.Counted = 10, 3, live.StampOf(noon)
	rate, outward := traffic(noon, []*live.Conn{in, out})
	assert.Equal(t, 13.0, rate)
	assert.True(t, outward, "most bytes go out")
}

func TestSounds(t *testing.T) {
	var v View
	beeps := func(now time.Time, keys string, beeps, others uint64) int {
		st := state()
		st.Beeps, st.Others = beeps, others
		n := 0
		for _, e := range v.Update(now, frame(keys), st) {
			if e == (Beep{}) {
				n++
			}
		}
		return n
	}
	assert.Zero(t, beeps(noon, "", 3, 3), "what was there at the start")
	assert.Equal(t, 1, beeps(noon.Add(time.Second), "", 5, 3))
	assert.Zero(t, beeps(noon.Add(time.Second+900*time.Millisecond), "", 6, 3), "once a second")
	assert.Equal(t, 1, beeps(noon.Add(3*time.Second), "", 7, 3))
	assert.Zero(t, beeps(noon.Add(5*time.Second), "", 7, 9), "unclassified ones only if asked")
	assert.Zero(t, beeps(noon.Add(7*time.Second), "b", 7, 9))
	assert.Equal(t, 1, beeps(noon.Add(9*time.Second), "", 7, 10))
	assert.Zero(t, beeps(noon.Add(11*time.Second), "b", 7, 10))
	assert.Zero(t, beeps(noon.Add(13*time.Second), "", 7, 11))
	assert.Equal(t, 1, beeps(noon, "", 8, 11), "also when the clock goes back")
}

func TestProblemsPanel(t *testing.T) {
	var v View
	st := state()
	st.Problems = []string{"rules: one\nline 2: two", strings.Repeat("long ", 100)}
	v.Update(noon, frame(""), st)
	v.Update(noon, click(30, 16), st)
	assert.Contains(t, texts(&v), "Problems\nrules: one\nline 2: two\n")
	x, y := at(t, &v, "Copy")
	assert.Equal(t, []Effect{Copy{st.Problems[0] + "\n" + st.Problems[1] + "\n"}}, v.Update(noon, click(x, y), st))
	v.Update(noon, frame(""), state())
	assert.Contains(t, texts(&v), "All is well again.\n")
}

// TestAnswerByKeys: the table of the SQL panel has the keys after it was clicked.
func TestAnswerByKeys(t *testing.T) {
	v, q := asked(t)
	a := answered(q.Ask)
	for i := range 30 {
		a.Table.Columns = append(a.Table.Columns, history.Column{Name: fmt.Sprintf("column%d", i)})
		for r := range a.Table.Rows {
			a.Table.Rows[r] = append(a.Table.Rows[r], fmt.Sprintf("value %d %d", r, i))
		}
	}
	hand(v, a)
	assert.NotContains(t, texts(v), "column29\n")
	x, y := at(t, v, "b")
	v.Update(noon, click(x, y), v.st)
	assert.Equal(t, []Effect{Copy{"b"}}, v.Update(noon, press(ui.Ctrl|'c'), v.st))
	before := v.sql().editor.Text()
	for range 40 {
		v.Update(noon, press(ui.KeyRight), v.st)
	}
	assert.Contains(t, texts(v), "column29\n", "columns beyond the edge")
	v.Update(noon, press(ui.KeyDown), v.st)
	e := v.Update(noon, press(ui.KeyEnter), v.st)
	require.Len(t, e, 1)
	assert.Equal(t, "192.0.2.1", e[0].(Whois).Addr.String())
	assert.Equal(t, before, v.sql().editor.Text())
	v.panels.Close(v.panels.Find("whois"))
	v.Update(noon, press('x'), v.st)
	assert.Equal(t, before+"x", v.sql().editor.Text(), "what is typed is typed")
}

// TestSQLTimes: times are local ones with their zone, or the numbers, as a button says;
// they are sorted as times.
func TestSQLTimes(t *testing.T) {
	v, q := asked(t)
	nan := [2]float64{math.NaN(), math.NaN()}
	hand(v, Answered{Ask: q.Ask, Offset: -1, Table: history.Table{
		Columns: []history.Column{{Name: "opened", Type: "real", Time: true}, {Name: "what"}},
		Rows:    [][]any{{1782907200.25, "b"}, {int64(-1), "a"}, {nil, "c"}, {"text", "d"}, {1e300, "e"}},
	}, Labels: make([]string, 5), Places: [][2]float64{nan, nan, nan, nan, nan}})
	local := time.Unix(1782907200, 0).In(noon.Location()).Format("2006-01-02 15:04:05 MST")
	assert.Contains(t, texts(v), local+"\nb\n1969-12-31 23:59:59 UTC\na\nc\ntext\nd\n1e+300\ne\n")
	x, y := at(t, v, "opened")
	v.Update(noon, click(x, y), v.st)
	assert.Regexp(t, `(?s)c\n.*1969-.*2026-.*1e\+300.*text`, texts(v))
	x, y = at(t, v, "Unix times")
	v.Update(noon, click(x, y), v.st)
	assert.Contains(t, texts(v), "-1\na\n1782907200.25\nb\n")
	x, y = at(t, v, "Local times")
	v.Update(noon, click(x, y), v.st)
	assert.Contains(t, texts(v), local)
}

// TestSQLStatus: that rows are missing is read first, and times have their unit.
func TestSQLStatus(t *testing.T) {
	v, q := asked(t)
	a := answered(q.Ask)
	a.Table.Cut, a.Table.Elapsed = "only the first 10,000 rows", 1900*time.Millisecond
	hand(v, a)
	v.Update(noon, frame(""), v.st)
	assert.Contains(t, texts(v), "only the first 10,000 rows")
	assert.Equal(t, "only the first 10,000 rows · 1.9 s", v.console.status(v))
}

// TestSQLClipboard: what is selected in the question is copied and cut.
func TestSQLClipboard(t *testing.T) {
	var v View
	v.Update(noon, frame("q"), state())
	e := &v.sql().editor
	e.Set("one two")
	do := func(k ui.Key) []Effect { return v.Update(noon, press(k), v.st) }
	assert.Empty(t, do(ui.Ctrl|'c'), "nothing is selected")
	do(ui.Shift | ui.Ctrl | ui.KeyLeft)
	assert.Equal(t, []Effect{Copy{"two"}}, do(ui.Ctrl|'c'))
	assert.Equal(t, []Effect{Copy{"two"}}, do(ui.Ctrl|'x'))
	assert.Equal(t, "one ", e.Text())
	assert.Equal(t, []Effect{Paste{}}, do(ui.Ctrl|'v'))
}

// TestPasteTooMuch: what has no room is not pasted in part, and that is said.
func TestPasteTooMuch(t *testing.T) {
	v := &View{}
	v.Update(noon, frame("q"), state())
	before := v.console.editor.Text()
	in := frame("")
	in.Answers = []Answer{Pasted{strings.Repeat("SELECT 1 ", ui.MaxText/9+1)}}
	v.Update(noon, in, v.st)
	assert.Equal(t, before, v.console.editor.Text())
	assert.Contains(t, texts(v), "not pasted: a question has at most 64 KiB")
}

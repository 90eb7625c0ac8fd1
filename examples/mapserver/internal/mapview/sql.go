package mapview

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/internal/numbers"
)

const maxQueries = 50 // that are remembered

// sqlPanel asks questions in SQL about the stored history.
type sqlPanel struct {
	editor   ui.Editor
	table    ui.Table
	result   resultRows
	numbers  bool // times are shown as they are stored
	inTable  bool // keys go to the answer, which was clicked last
	question      // that runs, if waiting
	since    time.Time
	problem  string
	wrong    int // where in the text, negative: nowhere
	menu     sqlMenu

	edit    ui.Box // of the editor
	rest    ui.Box // below the buttons; empty: there is no room
	run     ui.Button
	buttons ui.Buttons
	list    ui.Scroller          // of the menu
	items   []history.SavedQuery // of the menu
	shown   int                  // items
}

// A sqlMenu is what is offered in place of the answer.
type sqlMenu uint8

const (
	noMenu sqlMenu = iota
	savedMenu
	pastMenu
)

// sql returns the panel, which lives on while it is closed.
func (v *View) sql() *sqlPanel {
	if v.console == nil {
		v.console = &sqlPanel{wrong: -1}
		v.console.editor = ui.NewEditor(v.FirstQuery)
	}
	return v.console
}

// Written is the question in SQL that WriteSQL asked for. It opens the panel.
type Written struct{ SQL string }

func (a Written) take(v *View) {
	p := v.sql()
	p.load(a.SQL)
	v.open(p)
}

// load puts a question into the editor.
func (p *sqlPanel) load(sql string) {
	p.inTable = false
	p.editor.Set(sql)
	p.menu, p.problem, p.wrong = noMenu, "", -1
}

const sqlName = "sql"

func (*sqlPanel) Name() string       { return sqlName }
func (*sqlPanel) Title(*View) string { return "SQL" }
func (*sqlPanel) Size(v *View) (w, h float64) {
	// Not so large that it finds no room beside what it plots.
	return min(max(820, v.size.W-900), 1200), min(max(390, 0.45*v.size.H), 600)
}

func (p *sqlPanel) ask(v *View) {
	sql := strings.TrimSpace(p.editor.Text())
	if p.waiting || sql == "" {
		return
	}
	p.since, p.menu, p.problem, p.wrong = v.now, noMenu, "", -1
	v.Queries = slices.DeleteFunc(slices.Clone(v.Queries), func(s string) bool { return s == sql })
	v.Queries = append(v.Queries, sql)
	if n := len(v.Queries); n > maxQueries {
		v.Queries = v.Queries[n-maxQueries:]
	}
	// As it is in the editor, for the place of a mistake.
	p.pose(p, RunQuery{SQL: p.editor.Text()}, time.Time{})
}

// Answered is the answer to RunQuery.
type Answered struct {
	Ask     int
	Table   history.Table
	Labels  []string     // of the rule of each row; empty: none
	Places  [][2]float64 // of each row, latitude and longitude; NaN: none
	Problem string       // for people; empty: there is a table
	Offset  int          // of the mistake in the SQL, in bytes, negative: unknown
}

func (a Answered) take(v *View) { v.answer(a.Ask, a, true) }

func (p *sqlPanel) answered(v *View, answer Answer) {
	a := answer.(Answered)
	if a.Problem != "" {
		p.problem, p.wrong = a.Problem, min(a.Offset, len(p.editor.Text()))
		return
	}
	p.result = resultRows{v: v, Table: a.Table, labels: a.Labels, places: a.Places, addr: -1}
	p.table = ui.Table{Changed: true}
	for i, c := range a.Table.Columns {
		ip := c.Name == "ip" || c.Name == "local_ip"
		if c.Name == "ip" {
			p.result.addr = i
		}
		p.table.Columns = append(p.table.Columns, ui.Column{Title: c.Name, Right: c.Number() && !c.Time, Mono: ip, Link: c.Name == "ip"})
	}
	p.showTimes(p.numbers)
}

// hasTimes reports whether the answer has times.
func (p *sqlPanel) hasTimes() bool {
	return slices.ContainsFunc(p.result.Columns, func(c history.Column) bool { return c.Time })
}

// showTimes shows times as numbers, or as local time.
func (p *sqlPanel) showTimes(numbers bool) {
	p.numbers, p.result.numbers = numbers, numbers
	p.table.Remeasure()
	for i, c := range p.result.Columns {
		if c.Time {
			p.table.Columns[i].Right = numbers
		}
	}
}

// Pasted is the text on the clipboard.
type Pasted struct{ Text string }

func (a Pasted) take(v *View) {
	if p := v.panels.Focus; p != nil && p.Body == body(v.console) {
		if !v.console.editor.Insert(a.Text, false) {
			v.say(fmt.Sprintf("not pasted: a question has at most %d KiB", ui.MaxText>>10))
		}
	} else if v.filter.editing {
		for _, r := range a.Text {
			v.filter.typed(ui.Key(r))
		}
	}
}

func (p *sqlPanel) Layout(v *View, b ui.Box) {
	c := &v.canvas
	p.edit, p.rest, p.run = ui.Box{}, ui.Box{}, ui.Button{}
	if p.strip(v) {
		p.buttons.Layout(c, b, backLabel, v.keepLabel())
		return
	}
	p.edit = ui.At(b.X, b.Y, b.W, min(max(3, float64(strings.Count(p.editor.Text(), "\n")+1))*ui.EditorRow+13, max(b.H*0.45, 40)))
	p.editor.Layout(c, p.edit)
	y := p.edit.Y + p.edit.H + 8
	if y+26 > b.Y+b.H+ui.PanelAir {
		p.buttons.Layout(c, ui.Box{})
		return
	}
	p.run = ui.Button{Box: ui.At(b.X, y, 104, 26), Label: "Run Ctrl+Enter", Main: true}
	if p.waiting {
		p.run.Label, p.run.Main = "Cancel", false
	}
	p.buttons.Layout(c, ui.At(b.X+112, y, b.W-112, 26), p.labels(v)...)
	y += 34
	if h := b.Y + b.H - y; h >= 20 {
		p.rest = ui.At(b.X, y, b.W, h)
		p.layoutRest(v)
	}
}

// layoutRest lays out what is below the buttons.
func (p *sqlPanel) layoutRest(v *View) {
	p.items = p.items[:0]
	switch p.menu {
	case savedMenu:
		p.items = append(p.items, v.Saved...)
	case pastMenu:
		for _, sql := range slices.Backward(v.Queries) {
			p.items = append(p.items, history.SavedQuery{About: ui.OneLine(sql), SQL: sql})
		}
	default:
		if p.hasTable() {
			p.table.Layout(&v.canvas, p.rest, p.result)
		}
		return
	}
	p.shown = p.list.Layout(p.rest, len(p.items), ui.TableRow)
}

// hasTable reports whether the answer is shown.
func (p *sqlPanel) hasTable() bool {
	return p.menu == noMenu && p.problem == "" && len(p.table.Columns) > 0
}

func (p *sqlPanel) Mouse(v *View, m ui.Mouse) {
	if m.Press {
		p.inTable = p.hasTable() && m.Over(p.rest) || p.inTable && !m.Over(p.edit)
	}
	p.editor.Mouse(m)
	if m.Clicked(p.run.Box) {
		if p.waiting {
			v.ask(CancelQuery{Ask: p.number})
		} else {
			p.ask(v)
		}
	}
	switch {
	case p.rest.W == 0:
	case p.menu != noMenu:
		p.list.Mouse(m)
		for i := range p.shown {
			if m.Clicked(p.item(i)) {
				p.load(p.items[p.list.Top+i].SQL)
				break
			}
		}
	case p.hasTable():
		if row, col := p.table.Mouse(m, p.result); row >= 0 && col == p.result.addr {
			p.openReport(v, row)
		}
	}
	if label := p.buttons.Mouse(m); label != "" {
		p.press(v, label)
	}
}

// item is where the i-th item of the menu that is shown is.
func (p *sqlPanel) item(i int) ui.Box {
	return ui.At(p.rest.X, p.rest.Y+float64(i)*ui.TableRow, p.rest.W-ui.BarWidth, ui.TableRow)
}

func (p *sqlPanel) Draw(v *View, c *ui.Canvas, b ui.Box) {
	if p.strip(v) {
		p.buttons.Draw(c)
		p.drawStatus(c, b, numbers.Count(len(v.plots.list), "place", "places"))
		return
	}
	p.editor.Draw(c, p.edit, c.Focused && !p.inTable, p.wrong)
	if p.run.W == 0 {
		return
	}
	p.run.Draw(c)
	p.buttons.Draw(c)
	p.drawStatus(c, ui.At(b.X, p.run.Y, b.W, p.run.H), p.status(v))
	rest := p.rest
	switch {
	case rest.W == 0:
	case p.menu != noMenu:
		p.drawMenu(c)
	case p.problem != "":
		for i, s := range c.Wrap(typeface.Regular, 12.5, p.problem, rest.W-8, 4) {
			c.Text(rest.X+2, rest.Y+14+float64(i)*17, typeface.Regular, 12.5, c.Theme.Wrong, s)
		}
	case p.hasTable():
		p.table.Draw(c, p.result)
	}
}

// drawStatus writes a text behind the buttons.
func (p *sqlPanel) drawStatus(c *ui.Canvas, b ui.Box, s string) {
	s = c.Elide(typeface.Regular, 12, s, b.X+b.W-p.buttons.End()-4)
	c.TextRight(b.X+b.W-2, b.Y+17, typeface.Regular, 12, c.Theme.Dim, s)
}

// strip reports whether the panel is a strip, beside what it has plotted.
func (*sqlPanel) strip(v *View) bool {
	q := v.panels.Find(sqlName)
	return q != nil && q.Aside != nil && q.Aside.Strip
}

const backLabel = "Back to the answer"

// keepLabel says what a button does with what is plotted.
func (v *View) keepLabel() string {
	if v.plots.until.IsZero() {
		return "Clear"
	}
	return "Keep"
}

// openReport opens the report on the address of a row.
func (p *sqlPanel) openReport(v *View, row int) {
	if p.result.addr < 0 {
		return
	}
	if addr, err := netip.ParseAddr(p.result.Cell(row, p.result.addr)); err == nil {
		v.openReport(&live.Conn{Peer: live.EndpointOf(netip.AddrPortFrom(addr, 0))})
	}
}

// labels are those of the buttons beside the one that runs the question.
func (p *sqlPanel) labels(v *View) []string {
	labels := []string{"Saved", "Previous", "Plot on map"}
	if len(v.plots.list) > 0 {
		labels = append(labels, v.keepLabel())
	}
	if p.hasTimes() {
		labels = append(labels, map[bool]string{false: "Unix times", true: "Local times"}[p.numbers])
	}
	return append(labels, "CSV", "JSON", "Copy")
}

// press does what a button says.
func (p *sqlPanel) press(v *View, label string) {
	switch label {
	case backLabel:
		v.panels.Find(sqlName).GoBack()
	case "Saved", "Previous":
		want := savedMenu
		if label == "Previous" {
			want = pastMenu
		}
		if p.menu == want {
			want = noMenu
		}
		p.menu, p.list.Top = want, 0
	case "Plot on map":
		if p.problem != "" {
			v.say("the last question failed: there is nothing to plot")
			return
		}
		v.plot(p.result)
	case "Keep", "Clear":
		v.keepPlots()
	case "Unix times", "Local times":
		p.showTimes(label == "Unix times")
	case "CSV", "JSON":
		v.ask(Export{SQL: p.editor.Text(), Format: strings.ToLower(label)})
	case "Copy":
		v.copyOf(&p.table, p.result, ui.All)
	}
}

func (p *sqlPanel) status(v *View) string {
	if p.waiting && v.st.Opening {
		return v.pendingText()
	}
	if p.waiting {
		const tick = 100 * time.Millisecond
		v.wake(v.now.Truncate(tick).Add(tick))
		return fmt.Sprintf("running, %.1f s", v.now.Sub(p.since).Seconds())
	}
	if len(p.table.Columns) == 0 || p.problem != "" {
		return ""
	}
	s := numbers.Thousands(int64(len(p.result.Rows))) + " rows"
	switch {
	case p.result.Cut != "":
		s = p.result.Cut // how many they are is said there
	case len(p.result.Rows) == 1:
		s = "1 row"
	}
	took := fmt.Sprintf("%.3g ms", float64(p.result.Elapsed.Microseconds())/1000)
	if p.result.Elapsed >= time.Second {
		took = fmt.Sprintf("%.1f s", p.result.Elapsed.Seconds())
	}
	return s + " · " + took
}

// drawMenu lists questions to choose from.
func (p *sqlPanel) drawMenu(c *ui.Canvas) {
	t := c.Theme
	if len(p.items) == 0 {
		c.Text(p.rest.X+2, p.rest.Y+14, typeface.Regular, 12.5, t.Dim, "none yet")
		return
	}
	p.list.Draw(c)
	for i, q := range p.items[p.list.Top : p.list.Top+p.shown] {
		row := p.item(i)
		c.Highlight(row)
		x := row.X + 8
		if q.Name != "" {
			c.Text(x, row.Y+17, typeface.Medium, 12.5, t.Accent, c.Elide(typeface.Medium, 12.5, q.Name, 140))
			x += 150
		}
		c.Text(x, row.Y+17, typeface.Regular, 12.5, t.Text, c.Elide(typeface.Regular, 12.5, q.About, row.X+row.W-x-4))
	}
}

func (p *sqlPanel) Key(v *View, k ui.Key) bool {
	if p.strip(v) {
		if k != ui.KeyEscape && k != ui.KeyEnter && k != ui.Ctrl|ui.KeyEnter {
			return false // the map is looked at
		}
		v.panels.Find(sqlName).GoBack()
		if k != ui.Ctrl|ui.KeyEnter {
			return true
		}
	}
	switch k {
	case ui.KeyEscape:
		if p.menu != noMenu {
			p.menu = noMenu
			return true
		}
		return false
	case ui.Ctrl | ui.KeyEnter:
		p.ask(v)
		return true
	}
	if p.inTable && p.menu == noMenu && len(p.result.Rows) > 0 {
		if at := p.table.Selected(); k == ui.KeyEnter && at >= 0 {
			p.openReport(v, at)
			return true
		}
		if v.tableKey(&p.table, k, p.result) {
			return true
		}
	}
	p.inTable = false
	before := p.editor.Text()
	done := p.editKey(v, k)
	if p.editor.Text() != before {
		p.wrong = -1 // it may have moved
	}
	return done
}

// editKey hands a key to the editor, or what is selected there to the clipboard.
func (p *sqlPanel) editKey(v *View, k ui.Key) bool {
	switch k {
	case ui.Ctrl | 'c', ui.Ctrl | 'x':
		if s := p.editor.Selected(); s != "" {
			v.ask(Copy{Text: s})
			if k == ui.Ctrl|'x' {
				p.editor.Insert("", false)
			}
		}
		return true
	case ui.Ctrl | 'v':
		v.ask(Paste{})
		return true
	}
	return p.editor.Key(k)
}

// resultRows are the rows of an answer.
type resultRows struct {
	v *View
	history.Table
	labels  []string
	places  [][2]float64
	addr    int  // column of the peer's address, or -1
	numbers bool // times are shown as they are stored
}

func (r resultRows) Len() int { return len(r.Rows) }

func (resultRows) Faded(int) bool { return false }

func (r resultRows) Key(row int) any { return row }

func (r resultRows) Color(row int) color.NRGBA {
	return r.v.colorOf(r.labels[row])
}

func (r resultRows) Cell(row, col int) string {
	if r.Columns[col].Time && !r.numbers {
		if t, ok := history.Time(r.Rows[row][col]); ok {
			return t.In(r.v.now.Location()).Format(history.LocalTime)
		}
	}
	switch x := r.Rows[row][col].(type) {
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'g', 13, 64)
	case string:
		return ui.OneLine(x)
	case []byte:
		return fmt.Sprintf("x'%x'", x[:min(len(x), 64)])
	}
	return ""
}

func (r resultRows) Compare(a, b, col int) int {
	x, y := r.Rows[a][col], r.Rows[b][col]
	if n := cmp.Compare(rank(x), rank(y)); n != 0 {
		return n
	}
	switch x := x.(type) {
	case int64, float64:
		return cmp.Compare(history.Number(x), history.Number(y))
	case string:
		return cmp.Compare(x, y.(string))
	case []byte:
		return bytes.Compare(x, y.([]byte))
	}
	return 0
}

// rank orders kinds of values as SQLite does.
func rank(x any) int {
	switch x.(type) {
	case int64, float64:
		return 1
	case string:
		return 2
	case []byte:
		return 3
	}
	return 0
}

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

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/typeface"
	"github.com/connmapgo/connmap/history"
)

const mostQueries = 50 // that are remembered

// sqlPanel asks questions in SQL about the stored history.
type sqlPanel struct {
	editor  editor
	table   table
	result  resultRows
	numbers bool // times are shown as they are stored
	inTable bool // keys go to the answer, which was clicked last
	ask     int  // number of the question
	running bool
	since   time.Time
	problem string
	wrong   int // where in the text, negative: nowhere
	menu    sqlMenu
	list    scroller // of the menu
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
		v.console.editor.set(v.FirstQuery)
		v.console.editor.undos = nil
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
	p.editor.set(sql)
	p.menu, p.problem, p.wrong = noMenu, "", -1
}

const sqlName = "sql"

func (*sqlPanel) name() string       { return sqlName }
func (*sqlPanel) title(*View) string { return "SQL" }
func (*sqlPanel) size(v *View) (w, h float64) {
	// Not so large that it finds no room beside what it plots.
	return min(max(820, v.size.w-900), 1200), min(max(390, 0.45*v.size.h), 600)
}

func (p *sqlPanel) run(v *View) {
	sql := strings.TrimSpace(p.editor.text)
	if p.running || sql == "" {
		return
	}
	v.asks++
	p.ask, p.running, p.since, p.menu, p.problem, p.wrong = v.asks, true, v.now, noMenu, "", -1
	v.Queries = slices.DeleteFunc(slices.Clone(v.Queries), func(s string) bool { return s == sql })
	v.Queries = append(v.Queries, sql)
	if n := len(v.Queries); n > mostQueries {
		v.Queries = v.Queries[n-mostQueries:]
	}
	// As it is in the editor, for the place of a mistake.
	v.ask(RunQuery{Ask: p.ask, SQL: p.editor.text})
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

func (a Answered) take(v *View) {
	p := v.console
	if p == nil || a.Ask != p.ask || !p.running {
		return
	}
	p.running = false
	if a.Problem != "" {
		p.problem, p.wrong = a.Problem, min(a.Offset, len(p.editor.text))
		return
	}
	p.result = resultRows{v: v, Table: a.Table, labels: a.Labels, places: a.Places, addr: -1}
	p.table = table{changed: true}
	for i, c := range a.Table.Columns {
		ip := c.Name == "ip" || c.Name == "local_ip"
		if c.Name == "ip" {
			p.result.addr = i
		}
		p.table.columns = append(p.table.columns, column{title: c.Name, right: c.Number() && !c.Time, mono: ip, link: c.Name == "ip"})
	}
	p.showTimes(p.numbers)
}

// hasTimes reports whether the answer has times.
func (p *sqlPanel) hasTimes() bool {
	return slices.ContainsFunc(p.result.Columns, func(c history.Column) bool { return c.Time })
}

// showTimes shows times as numbers, or as local time.
func (p *sqlPanel) showTimes(numbers bool) {
	p.numbers, p.result.numbers, p.table.widths = numbers, numbers, nil
	for i, c := range p.result.Columns {
		if c.Time {
			p.table.columns[i].right = numbers
		}
	}
}

// Pasted is the text on the clipboard.
type Pasted struct{ Text string }

func (a Pasted) take(v *View) {
	if p := v.desk.focus; p != nil && p.body == body(v.console) {
		if !v.console.editor.insert(a.Text, false) {
			v.say(fmt.Sprintf("not pasted: a question has at most %d KiB", longestText>>10))
		}
	} else if v.filter.editing {
		for _, r := range a.Text {
			v.filter.typed(Key(r))
		}
	}
}

func (p *sqlPanel) show(v *View, b box) {
	if p.small(v) {
		p.showStrip(v, b)
		return
	}
	c, t := &v.canvas, v.theme
	edit := box{b.x, b.y, b.w, min(max(3, float64(strings.Count(p.editor.text, "\n")+1))*editorRow+13, max(b.h*0.45, 40))}
	if v.clicked(edit) {
		p.inTable = false
	}
	p.editor.show(v, edit, v.focused() && !p.inTable, p.wrong)
	y := edit.y + edit.h + 8
	if y+26 > b.y+b.h+panelAir {
		return
	}
	p.showButtons(v, box{b.x, y, b.w, 26})
	y += 34
	rest := box{b.x, y, b.w, b.y + b.h - y}
	if rest.h < 20 {
		return
	}
	switch {
	case p.menu == savedMenu:
		p.showMenu(v, rest, len(v.Saved), func(i int) (string, string, string) { q := v.Saved[i]; return q.Name, q.About, q.SQL })
	case p.menu == pastMenu:
		p.showMenu(v, rest, len(v.Queries), func(i int) (string, string, string) {
			s := v.Queries[len(v.Queries)-1-i]
			return "", oneLine.Replace(s), s
		})
	case p.problem != "":
		for i, s := range c.wrap(typeface.Regular, 12.5, p.problem, rest.w-8, 4) {
			c.text(rest.x+2, rest.y+14+float64(i)*17, typeface.Regular, 12.5, t.wrong, s)
		}
	case len(p.table.columns) > 0:
		if v.clicked(rest) {
			p.inTable = true
		}
		if row, col := p.table.show(v, rest, p.result); row >= 0 && col == p.result.addr {
			p.openReport(v, row)
		}
	}
}

// small reports whether the panel is a strip, beside what it has plotted.
func (*sqlPanel) small(v *View) bool {
	q := v.desk.find(sqlName)
	return q != nil && q.aside != nil && q.aside.small
}

// showStrip offers the way back, and what to do with what is plotted.
func (p *sqlPanel) showStrip(v *View, b box) {
	keep := map[bool]string{false: "Keep", true: "Clear"}[v.plots.until.IsZero()]
	pressed, x := v.buttons(b, "Back to the answer", keep)
	switch pressed {
	case 0:
		v.desk.shown.back()
		v.again = true
	case 1:
		v.keepPlots()
		v.again = true
	}
	s := v.canvas.elide(typeface.Regular, 12, plural(len(v.plots.list), "place"), b.x+b.w-x-4)
	v.canvas.textRight(b.x+b.w-2, b.y+17, typeface.Regular, 12, v.theme.dim, s)
}

// openReport opens the report on the address of a row.
func (p *sqlPanel) openReport(v *View, row int) {
	if p.result.addr < 0 {
		return
	}
	if addr, err := netip.ParseAddr(p.result.cell(row, p.result.addr)); err == nil {
		v.openReport(&live.Conn{Conn: conntrack.Conn{Peer: netip.AddrPortFrom(addr, 0)}})
	}
}

func (p *sqlPanel) showButtons(v *View, b box) {
	c, t := &v.canvas, v.theme
	run := box{b.x, b.y, 104, b.h}
	if p.running {
		if v.button(run, "Cancel", false) {
			v.ask(CancelQuery{Ask: p.ask})
		}
	} else if v.button(run, "Run Ctrl+Enter", true) {
		p.run(v)
		v.again = true
	}
	labels := []string{"Saved", "Previous", "Plot on map"}
	if len(v.plots.list) > 0 {
		labels = append(labels, map[bool]string{false: "Keep", true: "Clear"}[v.plots.until.IsZero()])
	}
	if p.hasTimes() {
		labels = append(labels, map[bool]string{false: "Unix times", true: "Local times"}[p.numbers])
	}
	labels = append(labels, "CSV", "JSON", "Copy")
	pressed, x := v.buttons(box{b.x + 112, b.y, b.w - 112, b.h}, labels...)
	if pressed >= 0 {
		p.press(v, labels[pressed])
		v.again = true
	}
	s := p.status(v)
	s = c.elide(typeface.Regular, 12, s, b.x+b.w-x-4)
	c.textRight(b.x+b.w-2, b.y+17, typeface.Regular, 12, t.dim, s)
}

// press does what a button says.
func (p *sqlPanel) press(v *View, label string) {
	switch label {
	case "Saved", "Previous":
		want := savedMenu
		if label == "Previous" {
			want = pastMenu
		}
		if p.menu == want {
			want = noMenu
		}
		p.menu, p.list.top = want, 0
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
		v.ask(Export{SQL: p.editor.text, Format: strings.ToLower(label)})
	case "Copy":
		p.table.copy(v, p.result, copyAll)
	}
}

func (p *sqlPanel) status(v *View) string {
	if p.running && v.st.Opening {
		return v.looking()
	}
	if p.running {
		const tick = 100 * time.Millisecond
		v.wake(v.now.Truncate(tick).Add(tick))
		return fmt.Sprintf("running, %.1f s", v.now.Sub(p.since).Seconds())
	}
	if len(p.table.columns) == 0 || p.problem != "" {
		return ""
	}
	s := thousands(int64(len(p.result.Rows))) + " rows"
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

// showMenu lists questions to choose from.
func (p *sqlPanel) showMenu(v *View, b box, n int, item func(int) (name, about, sql string)) {
	c, t := &v.canvas, v.theme
	if n == 0 {
		c.text(b.x+2, b.y+14, typeface.Regular, 12.5, t.dim, "none yet")
		return
	}
	shown := p.list.show(v, b, n, tableRow)
	for i := p.list.top; i < p.list.top+shown; i++ {
		name, about, sql := item(i)
		row := box{b.x, b.y + float64(i-p.list.top)*tableRow, b.w - barWidth, tableRow}
		if v.hot(row) {
			c.rect(row, 4, t.edge)
			if v.in.Press {
				p.load(sql)
				v.again = true
			}
		}
		x := row.x + 8
		if name != "" {
			c.text(x, row.y+17, typeface.Medium, 12.5, t.accent, c.elide(typeface.Medium, 12.5, name, 140))
			x += 150
		}
		c.text(x, row.y+17, typeface.Regular, 12.5, t.text, c.elide(typeface.Regular, 12.5, about, row.x+row.w-x-4))
	}
}

func (p *sqlPanel) key(v *View, k Key) bool {
	if p.small(v) {
		if k != KeyEscape && k != KeyEnter && k != Ctrl|KeyEnter {
			return false // the map is looked at
		}
		v.desk.find(sqlName).back()
		if k != Ctrl|KeyEnter {
			return true
		}
	}
	switch k {
	case KeyEscape:
		if p.menu != noMenu {
			p.menu = noMenu
			return true
		}
		return false
	case Ctrl | KeyEnter:
		p.run(v)
		return true
	}
	if p.inTable && p.menu == noMenu && len(p.result.Rows) > 0 {
		if at := p.table.selected(); k == KeyEnter && at >= 0 {
			p.openReport(v, at)
			return true
		}
		if p.table.keys(v, k, p.result) {
			return true
		}
	}
	p.inTable = false
	before := p.editor.text
	done := p.editor.key(v, k)
	if p.editor.text != before {
		p.wrong = -1 // it may have moved
	}
	return done
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

func (r resultRows) len() int { return len(r.Rows) }

func (r resultRows) key(row int) any { return row }

func (r resultRows) color(row int) color.NRGBA {
	return r.v.colorOf(r.labels[row])
}

func (r resultRows) cell(row, col int) string {
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
		return oneLine.Replace(x)
	case []byte:
		return fmt.Sprintf("x'%x'", x[:min(len(x), 64)])
	}
	return ""
}

func (r resultRows) compare(a, b, col int) int {
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

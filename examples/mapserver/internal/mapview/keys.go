package mapview

import (
	"slices"
	"time"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

// A Binding is a key or a mouse action of the map, for people to read.
type Binding struct {
	Keys string // as they are written on keyboards
	What string
	keys []ui.Key
	do   func(v *View)
}

// Bindings are all keys and mouse actions there are, those of the panels after
// those of the map.
var Bindings []Binding

// In init, since the help that a key opens lists the keys: an initializer would depend on
// itself.
func init() {
	Bindings = []Binding{
		{"h", "places of the stored history", []ui.Key{'h'}, func(v *View) {
			v.History = !v.History
			v.sayOnOff("history", v.History)
		}},
		{"t", "labels of all connections", []ui.Key{'t'}, func(v *View) {
			v.Labels = !v.Labels
			v.sayOnOff("connection labels", v.Labels)
		}},
		{"a", "rule labels of all places", []ui.Key{'a'}, func(v *View) {
			v.writeAll(!v.RuleLabels)
			v.sayOnOff("rule labels", v.RuleLabels)
		}},
		{"f", "cycle the colours of stacked places", []ui.Key{'f'}, func(v *View) {
			v.Cycle = !v.Cycle
			v.sayOnOff("colour cycling", v.Cycle)
		}},
		{"m", "local and LAN peers, at the home place", []ui.Key{'m'}, func(v *View) {
			v.Local = !v.Local
			v.sayOnOff("local and LAN peers", v.Local)
		}},
		{"c", "read the rules file again", []ui.Key{'c'}, func(v *View) { v.ask(ReloadRules{}) }},
		{"s", "save the counts of all places in a file", []ui.Key{'s'}, func(v *View) { v.ask(SaveHistory{}) }},
		{"l", "load them", []ui.Key{'l'}, func(v *View) {
			v.ask(LoadHistory{})
			v.History = true
		}},
		{"r", "delete the stored history; asks first", []ui.Key{'r'}, (*View).confirmReset},
		{"p", "how much history is kept", []ui.Key{'p'}, func(v *View) { v.toggle(&retentionPanel{}) }},
		{"z", "the addresses of IPv4 on a Hilbert curve", []ui.Key{'z'}, func(v *View) { v.toggle(&v.curve) }},
		{"q", "questions in SQL about the history", []ui.Key{'q'}, func(v *View) { v.toggle(v.sql()) }},
		{"g", "start or stop a replay of the history in 30 s", []ui.Key{'g'}, (*View).toggleReplay},
		{"x", "keep what is plotted, or clear it", []ui.Key{'x'}, (*View).keepPlots},
		{"Enter", "list all connections that are shown", []ui.Key{ui.KeyEnter}, func(v *View) { v.toggle(v.newShownList()) }},
		{"i, k", "the agents; shows and hides their connections", []ui.Key{'i', 'k'}, func(v *View) { v.toggle(&v.agents) }},
		{"/", "show what fits words such as port:443, live and past", []ui.Key{'/'}, func(v *View) { v.filter.editing = true }},
		{"space", "pause", []ui.Key{' '}, func(v *View) { v.togglePause() }},
		{"o", "lines from home, with direction and traffic", []ui.Key{'o'}, func(v *View) {
			v.Lines = !v.Lines
			v.sayOnOff("lines", v.Lines)
		}},
		{"b", "a sound for connections without a rule", []ui.Key{'b'}, func(v *View) {
			v.Beep = !v.Beep
			v.sayOnOff("sound for unclassified connections", v.Beep)
		}},
		{"d", "dark or light", []ui.Key{'d'}, func(v *View) { v.Light = !v.Light }},
		{"v", "colours that colour-blind eyes tell apart", []ui.Key{'v'}, func(v *View) {
			v.Apart = !v.Apart
			v.show(v.states.base)
			v.sayOnOff("colours for colour-blind eyes", v.Apart)
		}},
		{"?", "this list", []ui.Key{'?'}, func(v *View) { v.toggle(&helpPanel{}) }},
		{"Esc", "no, stop, close; with nothing open save and quit", []ui.Key{ui.KeyEscape}, (*View).escape},
		{"wheel, + and -", "zoom", []ui.Key{'+', '='}, func(v *View) { v.zoomKey(wheelZoom) }},
		{"", "", []ui.Key{'-'}, func(v *View) { v.zoomKey(1 / wheelZoom) }},
		{"0", "the whole map", []ui.Key{'0'}, func(v *View) { v.camera = camera{} }},
		{"Ctrl + and -", "larger and smaller text; Ctrl 0 as usual", []ui.Key{ui.Ctrl | '+', ui.Ctrl | '=', ui.Ctrl | ui.Shift | '+', ui.Ctrl | ui.Shift | '='}, func(v *View) { v.resizeText(1.125) }},
		{"", "", []ui.Key{ui.Ctrl | '-'}, func(v *View) { v.resizeText(1 / 1.125) }},
		{"", "", []ui.Key{ui.Ctrl | '0'}, func(v *View) { v.resizeText(0) }},
		{"middle drag, arrows", "move the map", nil, nil},
		{"mouse over a place", "names what is there", nil, nil},
		{"click on a place", "its connections by program, live and past", nil, nil},
		{"right click", "connections nearby, live and past", nil, nil},
		{"legend's square", "labels of that rule", nil, nil},
		{"legend's text", "lists the connections of that rule", nil, nil},
		{"mouse on the legend", "fewest and most connections seen", nil, nil},
		{"left drag", "moves the window, or a panel by its title", nil, nil},
		{"bar at the upper right", "the same with the mouse; it names the keys", nil, nil},
		{"square in a title", "makes a panel as large as the window, or as before", nil, nil},
		{"drag at the edge", "resizes the window, or a panel at its corner", nil, nil},
	}
}

// key takes in a key: the filter that is typed has it first, then the panel that the
// user pointed at last, then the map.
func (v *View) key(k ui.Key) {
	k, at := k.Split()
	held := k&ui.Repeat != 0
	k, at = k&^ui.Repeat, at&^ui.Repeat
	if k == ui.KeyEscape && !v.filter.editing && v.decline() {
		return
	}
	if k != 'r' && at != 'r' && v.before(v.resetUntil, toastTime) {
		v.decline()
	}
	switch {
	case v.filter.editing && k == ui.Ctrl|'v':
		v.ask(Paste{})
		return
	case v.filter.editing:
		v.filter.typed(k)
		return
	}
	if p := v.panels.Focus; p != nil && (p.Key(v, k) || at != 0 && p.Key(v, at)) {
		return
	}
	if held {
		return // what it switches would flicker
	}
	// The place of the key counts first: on a Hebrew keyboard the key q types a slash.
	for _, k := range [...]ui.Key{at, k} {
		for _, b := range Bindings {
			if k != 0 && slices.Contains(b.keys, k) {
				b.do(v)
				return
			}
		}
	}
}

// decline answers the question about deleting with no, or else stops a replay. It reports
// whether there was one of them.
func (v *View) decline() bool {
	switch {
	case v.before(v.resetUntil, toastTime):
		v.resetUntil = time.Time{}
		v.say("nothing is deleted")
	case v.replay.runs():
		v.stopReplay()
	default:
		return false
	}
	return true
}

// escape closes the front panel, or what else is open. Only with nothing open it quits:
// one press too many must not end the program.
func (v *View) escape() {
	switch p := &v.panels; {
	case p.Focus != nil:
		p.Close(p.Focus)
	case p.Front() != nil:
		p.Close(p.Front())
	case len(v.filter.terms) > 0:
		v.filter = filter{}
	case v.states.paused.at != nil:
		v.togglePause()
	case len(v.plots.list) > 0:
		v.clearPlots()
	default:
		v.ask(Quit{})
	}
}

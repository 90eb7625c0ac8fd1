package mapview

import (
	"fmt"
	"image"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

func hosts(n int) *live.State {
	st := state()
	st.Agents = nil
	for i := range n {
		name := fmt.Sprintf("host%03d", i)
		st.Agents = append(st.Agents, live.Agent{ID: uint64(i), Name: name, Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), Since: noon.Add(-time.Duration(i) * time.Hour), Backend: "ebpf", Lost: uint64(i), Conns: 1})
		c := conn(uint64(i), paris, 0)
		c.Agent = name
		st.Conns = append(st.Conns, c)
	}
	return st
}

// TestAgentsByAddress: addresses are sorted as such, not as texts.
func TestAgentsByAddress(t *testing.T) {
	st := hosts(11)
	rows := agentRows{st: st}
	assert.Negative(t, rows.Compare(9, 10, agentAddress), "%v is before %v", st.Agents[9].Addr, st.Agents[10].Addr)
	assert.Positive(t, rows.Compare(10, 9, agentAddress))
	assert.Zero(t, rows.Compare(5, 5, agentAddress))
}

func click(x, y float64) Input {
	in := mouse(x, y)
	in.Press, in.Held = true, true
	return in
}

func TestAgentsPanel(t *testing.T) {
	for _, key := range []string{"i", "k"} {
		var v View
		st := hosts(3)
		assert.Empty(t, v.Update(noon, frame(key), st))
		shown := texts(&v)
		assert.Contains(t, shown, "3 agents\nagent\naddress\nlink\nsince\ncapture\nconnections\nlost\n")
		assert.Contains(t, shown, "host000\nthis machine\n12:00:00 UTC\nebpf\n1\n0\n")
		assert.Contains(t, shown, "host002\n198.51.100.2\n2\n10:00:00 UTC\nebpf\n1\n2\n")

		// A click hides the connections of an agent, another shows them again.
		x, y := at(t, &v, "host001")
		assert.Empty(t, v.Update(noon, click(x, y), st))
		shown = texts(&v)
		assert.Contains(t, shown, "3 agents, 1 hidden\n")
		assert.Contains(t, shown, "2 live · 1 of hidden agents")
		assert.Equal(t, 2, v.stacks.shown)
		assert.Contains(t, shown, "Web\n2\n", "the legend counts what is shown")
		v.Update(noon, mouse(x, y), st)
		assert.Equal(t, 2, v.stacks.shown)
		v.Update(noon, click(x, y), st)
		assert.Equal(t, 3, v.stacks.shown)

		// Neither moves the window, and Esc closes it.
		in := mouse(x+90, y)
		in.Held = true
		assert.Empty(t, v.Update(noon, in, st))
		assert.Empty(t, v.Update(noon, Input{Size: image.Pt(1000, 500), Scale: 1, Keys: []ui.Key{ui.KeyEscape}}, st))
		assert.NotContains(t, texts(&v), "capture")
	}
}

func TestManyAgents(t *testing.T) {
	var v View
	st := hosts(500)
	st.Agents[0].Name = strings.Repeat("long name ", 20)
	v.Update(noon, frame("i"), st)
	n := strings.Count(texts(&v), "ebpf\n")
	assert.Greater(t, n, 10)
	assert.LessOrEqual(t, n, 20)
	assert.Contains(t, texts(&v), "long name")
	for range 300 {
		v.Update(noon, wheel(500, 250, -1), st)
	}
	assert.Contains(t, texts(&v), "host499\n")
	assert.False(t, v.camera.zoomed, "the wheel is the panel's")
	for range 300 {
		v.Update(noon, wheel(500, 250, 1), st)
	}
	assert.Contains(t, texts(&v), "host001\n")
	assert.NotContains(t, texts(&v), "host499\n")
	v.Update(noon, press(ui.KeyEnd), st)
	assert.Contains(t, texts(&v), "host499\n")
	// In windows of any size all stays in the panel, and there may be no agent.
	for _, size := range []image.Point{{200, 100}, {3840, 2160}, {500, 700}} {
		for _, s := range []*live.State{st, hosts(0)} {
			v.Update(noon, Input{Size: size, Scale: 1}, s)
			within(t, &v)
		}
	}
}

// TestAgentsAreATable: they are sorted and copied like other rows, and keys show and hide.
func TestAgentsAreATable(t *testing.T) {
	var v View
	st := hosts(3)
	v.Update(noon, frame("i"), st)
	order := func() string {
		shown := texts(&v)
		var names []string
		for line := range strings.Lines(shown) {
			if strings.HasPrefix(line, "host0") {
				names = append(names, strings.TrimSpace(line))
			}
		}
		return strings.Join(names, " ")
	}
	assert.Equal(t, "host000 host001 host002", order())
	x, y := at(t, &v, "lost")
	v.Update(noon, click(x, y), st)
	v.Update(noon, click(x, y), st)
	assert.Equal(t, "host002 host001 host000", order(), "the most lost first")
	x, y = at(t, &v, "since")
	v.Update(noon, click(x, y), st)
	assert.Equal(t, "host002 host001 host000", order(), "by time, not by text")
	// The first key shows the cursor.
	v.Update(noon, press(ui.KeyDown), st)
	assert.Equal(t, []Effect{Copy{"●\thost002\t198.51.100.2\t2\t10:00:00 UTC\tebpf\t1\t2"}}, v.Update(noon, press(ui.Ctrl|ui.Shift|'c'), st))
	v.Update(noon, press(ui.KeyEnter), st)
	assert.Contains(t, texts(&v), "3 agents, 1 hidden\n")
	assert.Equal(t, 2, v.stacks.shown)
	assert.Equal(t, []Effect{Copy{"○"}}, v.Update(noon, press(ui.Ctrl|'c'), st))
	x, y = at(t, &v, "Show or hide")
	v.Update(noon, click(x, y), st)
	assert.Equal(t, 3, v.stacks.shown)
	// A click elsewhere chooses a cell.
	v.Update(noon, mouse(x, y), st)
	x, y = at(t, &v, "198.51.100.1")
	v.Update(noon, click(x, y), st)
	assert.Equal(t, 3, v.stacks.shown)
	assert.Equal(t, []Effect{Copy{"198.51.100.1"}}, v.Update(noon, press(ui.Ctrl|'c'), st))
	for col := range agentColumns {
		assert.Equal(t, v.agents.rows.Compare(0, 2, col), -v.agents.rows.Compare(2, 0, col), agentColumns[col].Title)
	}
}

// A panel's scene lies in the window.
func within(t *testing.T, v *View) {
	t.Helper()
	s := v.Scene()
	for _, i := range s.Items {
		x0, y0, x1, y1 := i.Box()
		if i.Shape == ui.Text {
			x0, y0, x1, y1 = i.X, i.Y-i.Size, i.X+float32(v.canvas.Width(i.Font, float64(i.Size)/v.in.Scale, i.Text)*v.in.Scale), i.Y
		}
		if i.Shape == ui.Rect || i.Shape == ui.Frame || i.Shape == ui.Text {
			assert.True(t, x0 >= -1 && y0 >= -20 && x1 <= float32(s.Size.X)+1 && y1 <= float32(s.Size.Y)+1, "%v: %+v", s.Size, i)
		}
	}
}

func TestSpacePauses(t *testing.T) {
	var v View
	before, after := state(conn(1, paris, 0)), state(conn(1, paris, 0), conn(2, rio, 1))
	after.Time = noon.Add(time.Minute)
	after.Problems = []string{"something is wrong"}
	v.Update(noon, frame(""), before)
	v.Update(noon, frame(" "), before)
	assert.Contains(t, texts(&v), "paused at 12:00:00 UTC · ")
	v.Update(noon.Add(time.Minute), frame(""), after)
	shown := texts(&v)
	assert.Contains(t, shown, "1 live")
	assert.Contains(t, shown, "something is wrong", "all else goes on")
	list := &v.stacks.list[0]
	v.Update(noon.Add(time.Minute), frame(""), after)
	assert.Same(t, list, &v.stacks.list[0], "nothing is computed anew")
	v.Update(noon.Add(time.Minute), frame(" "), after)
	assert.Contains(t, texts(&v), "2 live")
	assert.NotContains(t, texts(&v), "paused")
}

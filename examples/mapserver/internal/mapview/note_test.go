package mapview

import (
	"fmt"
	"image"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/live"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const reasons = "ebpf does not work here: it needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; " +
	"names of other users' programs need root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"

// TestLimitationIsSaidOnce in plain words, until it is dismissed, and stands in full under i.
func TestLimitationIsSaidOnce(t *testing.T) {
	var v View
	st := state(conn(1, paris, 0))
	st.Agents[0].Limited = reasons
	v.Update(noon, frame(""), st)
	said := func() string { return strings.ReplaceAll(texts(&v), "\n", " ") }
	const plain = "nas does not see all connections or programs. Press i for the reason."
	assert.Contains(t, said(), plain)
	assert.NotContains(t, said(), "CAP_BPF")
	n := v.note
	v.Update(noon, click(n.box.X+n.box.W-12, n.box.Y+11), st)
	assert.NotContains(t, said(), "does not see")
	assert.Equal(t, plain, v.Dismissed)
	// Nor at the next start, but what is new is said.
	v = View{Settings: v.Settings}
	v.Update(noon, frame(""), st)
	assert.NotContains(t, said(), "does not see")
	st2 := *st
	st2.Agents = []live.Agent{{Name: "nas", Limited: reasons}, {Name: "web1", Limited: reasons}, {Name: "db"}}
	v.Update(noon, frame("i"), &st2)
	assert.Contains(t, said(), "2 of 3 agents do not see all connections or programs. Press i for the reason.")
	assert.Contains(t, said(), "nas and 1 other agent see less: "+reasons)
	assert.Contains(t, said(), "limited")
}

// TestNothingCoversTheLegend, at any size, whatever there is to say.
func TestNothingCoversTheLegend(t *testing.T) {
	for _, size := range []image.Point{{320, 160}, {400, 240}, {640, 320}, {1000, 500}, {1920, 1080}} {
		for _, problem := range []string{"", strings.Repeat("what is wrong ", 30)} {
			t.Run(fmt.Sprint(size, problem != ""), func(t *testing.T) {
				var v View
				st := state(conn(1, paris, 0), conn(2, rio, 1), conn(3, rio, 2))
				st.Agents[0].Limited = reasons
				if problem != "" {
					st.Problems = []string{problem, problem}
				}
				in := press('/', 'p', ui.KeyEnter)
				in.Size = size
				v.Update(noon, in, st)
				legend := v.legend.box
				if size.Y >= 240 {
					require.NotZero(t, legend.W)
				}
				if size.X >= 640 {
					assert.NotEmpty(t, v.note.lines)
				}
				all := append([]ui.Box{v.problems.box, v.search.chip, v.note.box, v.status.box}, v.chips...)
				for i, b := range all {
					assert.False(t, b.Overlaps(legend), "%v", b)
					for _, o := range all[:i] {
						assert.False(t, b.Overlaps(o), "%v %v", b, o)
					}
				}
			})
		}
	}
}

// TestReplayBesideNote: where there is no room for both, the bar of a replay stands in place of the
// note.
func TestReplayBesideNote(t *testing.T) {
	for w := 320; w < 800; w += 40 {
		for h := 160; h < 500; h += 20 {
			for _, key := range []string{"", "i"} {
				var v View
				st := state(conn(1, paris, 0), conn(2, rio, 1), conn(3, rio, 2))
				st.Agents[0].Limited = reasons
				in := frame(key)
				in.Size = image.Pt(w, h)
				v.Update(noon, in, st)
				v.replay = replay{question: question{effect: StartReplay{}}, spots: []spot{{lat: 1, since: noon}}, index: map[[2]int]int{}}
				in.Keys = nil
				v.Update(noon, in, st)
				require.True(t, v.replay.runs())
				assert.False(t, v.note.box.W > 0 && v.note.box.Overlaps(v.replay.bar), "%d %d %v %v", w, h, v.note.box, v.replay.bar)
			}
		}
	}
}

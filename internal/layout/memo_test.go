package layout

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestMemo compares a memo with a map.
func TestMemo(t *testing.T) {
	var m memo
	want := make(map[string]uint32)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range uint32(100_000) {
		text := fmt.Sprint(r.IntN(30_000))
		n, ok := m.get([]byte(text))
		w, known := want[text]
		assert.Equal(t, known, ok)
		if known {
			assert.Equal(t, w, n)
		}
		if i%3 == 0 {
			m.set([]byte(text), i)
			want[text] = i
		}
	}
	assert.Equal(t, len(want), m.n)
	m.set(nil, 7)
	n, ok := m.get(nil)
	assert.Equal(t, []any{uint32(7), true}, []any{n, ok}, "also of no text")
}

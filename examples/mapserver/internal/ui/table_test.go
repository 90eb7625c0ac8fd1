package ui

import (
	"cmp"
	"fmt"
	"image/color"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// numbers are rows of a number and its remainder.
type numbers []int

func (n numbers) Len() int                 { return len(n) }
func (n numbers) Key(row int) any          { return n[row] }
func (n numbers) Faded(int) bool           { return false }
func (n numbers) Color(int) color.NRGBA    { return color.NRGBA{} }
func (n numbers) Cell(row, col int) string { return fmt.Sprint(n.value(row, col)) }
func (n numbers) value(row, col int) int   { return [2]int{n[row], n[row] % 10}[col] }
func (n numbers) Compare(a, b, col int) int {
	return cmp.Compare(n.value(a, col), n.value(b, col))
}

func TestTableSortsAndKeepsTheCursor(t *testing.T) {
	tb := Table{Columns: []Column{{Title: "n"}, {Title: "rest"}}}
	rows := numbers{31, 12, 25, 42, 11}
	require.True(t, tb.Key(KeyDown, rows))
	assert.Equal(t, 0, tb.Selected(), "the first key shows the cursor")
	tb.Key(KeyDown, rows)
	assert.Equal(t, 12, rows[tb.Selected()])
	order := func() (list []int) {
		tb.arrange(rows)
		for _, i := range tb.order {
			list = append(list, rows[i])
		}
		return list
	}
	tb.SortBy(0)
	assert.Equal(t, []int{11, 12, 25, 31, 42}, order())
	assert.Equal(t, 12, rows[tb.Selected()])
	tb.SortBy(0)
	assert.Equal(t, []int{42, 31, 25, 12, 11}, order())
	tb.SortBy(1)
	assert.Equal(t, []int{31, 11, 12, 42, 25}, order(), "what is alike stays in its order")
	tb.SortBy(1)
	tb.SortBy(1)
	assert.Equal(t, []int{31, 12, 25, 42, 11}, order(), "as it came")
	// Other rows: the cursor stays on its own, or where it was.
	rows, tb.Changed = numbers{5, 12, 7}, true
	tb.arrange(rows)
	assert.Equal(t, 12, rows[tb.Selected()])
	rows, tb.Changed = numbers{5}, true
	tb.arrange(rows)
	assert.Equal(t, -1, tb.Selected(), "not the one that stands there now")
	tb.Key(KeyDown, rows)
	assert.Equal(t, 0, tb.Selected())
	rows, tb.Changed = nil, true
	tb.arrange(rows)
	assert.Equal(t, -1, tb.Selected())
	assert.False(t, tb.Key(KeyDown, rows))
}

func TestTableCopies(t *testing.T) {
	tb := Table{Columns: []Column{{Title: "n"}, {Title: "rest"}}}
	rows := numbers{31, 12}
	_, err := tb.Text(rows, Cell)
	assert.EqualError(t, err, "choose a row first")
	for _, k := range []Key{KeyEnd, KeyRight, KeyRight, KeyRight} {
		tb.Key(k, rows)
	}
	var got []string
	for _, k := range []Key{Ctrl | 'c', Ctrl | Shift | 'c', Ctrl | 'a'} {
		text, err := tb.Text(rows, CopyKey(k))
		require.NoError(t, err)
		got = append(got, text)
	}
	assert.Equal(t, []string{"2", "12\t2", "n\trest\n31\t1\n12\t2\n"}, got)
	_, err = new(Table).Text(rows, All)
	assert.EqualError(t, err, "there is nothing to copy yet")
}

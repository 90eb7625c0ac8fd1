package history

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCells(t *testing.T) {
	for _, tt := range []struct {
		cell   any
		number float64
		want   time.Time // zero: none
	}{
		{int64(1782907200), 1782907200, time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)},
		{1782907200.250001, 1782907200.250001, time.Date(2026, 7, 1, 12, 0, 0, 250_001_000, time.UTC)},
		{int64(-1), -1, time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)},
		{int64(-62167219201), -62167219201, time.Time{}},
		{int64(253402300800), 253402300800, time.Time{}},
		{math.NaN(), math.NaN(), time.Time{}},
		{"1782907200", math.NaN(), time.Time{}},
		{[]byte("1"), math.NaN(), time.Time{}},
		{nil, math.NaN(), time.Time{}},
	} {
		n := Number(tt.cell)
		assert.True(t, n == tt.number || math.IsNaN(n) && math.IsNaN(tt.number), "%v: %v", tt.cell, n)
		got, ok := Time(tt.cell)
		assert.Equal(t, !tt.want.IsZero(), ok, "%v", tt.cell)
		assert.Equal(t, tt.want, got, "%v", tt.cell)
	}
	for kind, want := range map[string]bool{"integer": true, "real": true, "text": false, "blob": false, "": false} {
		assert.Equal(t, want, Column{Type: kind}.Number(), kind)
	}
}

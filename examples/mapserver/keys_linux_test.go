package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestKeysOfASlowFrame: what is typed while the machine is busy comes all at once. None of
// it is lost, nor is what goes with Ctrl before and after it.
func TestKeysOfASlowFrame(t *testing.T) {
	m := openWindow(t, "-demo", "5")
	m.sees("^1 agent · ")
	m.key("q")
	m.sees("^Run Ctrl")
	m.ctrl("a")
	m.stops(true)
	m.do("type", "--delay", "1", "SELECT 6*7 AS answer, 'Done DURING' AS text")
	m.key("ctrl+Return")
	m.stops(false)
	m.sees("^42$")
	m.sees("^Done DURING$")
	assert.Equal(t, "answer", m.now().texts("^answer$")[0])
	// A text alone, and one with Enter at its end.
	m.key("Escape")
	m.misses("^Run Ctrl")
	m.stops(true)
	m.do("type", "--delay", "1", "/port:443")
	m.key("Return")
	m.stops(false)
	m.until("a chip of the filter", func(s *scene) bool { return s.has("^port:443$") && !s.has("^/$") })
}

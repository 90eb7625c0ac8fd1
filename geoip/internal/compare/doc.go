// Package compare measures look-ups of places against other programs' tables. It
// is a module of its own, so that nobody else needs those.
package compare

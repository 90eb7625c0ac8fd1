//go:build !linux

package clipboard

import "github.com/atotto/clipboard"

// A Clipboard is the system's. The zero Clipboard is ready for use. It is safe for
// concurrent use.
type Clipboard struct{}

// Write puts a text on the clipboard.
func (*Clipboard) Write(text string) error { return clipboard.WriteAll(text) }

// Read returns the text on the clipboard.
func (*Clipboard) Read() (string, error) { return clipboard.ReadAll() }

// Close has nothing to do.
func (*Clipboard) Close() {}

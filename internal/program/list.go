package program

import "strings"

// A List is the values of a flag that may be repeated.
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }

// Set adds a value.
func (l *List) Set(s string) error {
	*l = append(*l, s)
	return nil
}

package rules

import "image/color"

// A Type says what a rule looks at.
type Type uint8

// The types of rules.
const (
	Local Type = iota + 1 // the local port
	Peer                  // the peer's port
	App                   // the program
)

// A Rule gives the connections it matches a label and a colour.
type Rule struct {
	Label    string
	Type     Type
	Target   string // as written: a port, a range such as 6660-6697, or a program
	Color    color.NRGBA
	ShowText bool // label the connections on the map
	Beep     bool // sound when one appears
	Line     int  // line in the file, from 1; zero for Other
}

// Other is what connections that match no rule get.
var Other = Rule{Label: "Other", Color: color.NRGBA{R: 255, A: 255}, ShowText: true}

// A Conn is what rules look at in a connection.
type Conn struct {
	Local, Peer uint16 // ports
	Comm        string // kernel's name of the process
	Exe         string // path of its executable
}

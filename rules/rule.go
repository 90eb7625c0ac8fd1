package rules

import "image/color"

// A Type says what a rule is matched with.
type Type uint8

// The types of rules.
const (
	Local Type = iota + 1 // the local port
	Peer                  // the peer's port
	App                   // the program
	Name                  // the name by which a program asked for the peer
)

// A Rule has the label and the colour of the connections that match it.
type Rule struct {
	Label    string
	Type     Type
	Target   string // as written: a port, a range such as 6660-6697, a program, or a name
	Color    color.NRGBA
	ShowText bool // label the connections on the map
	Beep     bool // sound when one appears
	Line     int  // line in the file, from 1; zero for Other
}

// Other is the rule of connections that match no rule.
var Other = Rule{Label: "Other", Color: color.NRGBA{R: 255, A: 255}, ShowText: true}

// A Conn has the properties of a connection that rules match.
type Conn struct {
	Local, Peer uint16 // ports
	Comm        string // kernel's name of the process
	Exe         string // path of its executable
	Name        string // of the peer, in lower case; empty: unknown
}

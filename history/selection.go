package history

import "net/netip"

// A Selection says which stored connections are meant, by the one of its fields that is set.
// The zero Selection means all. A store writes the question for it in its own language.
type Selection struct {
	Terms   []Term       // they match all of these
	Rule    string       // label of their rule
	Nowhere bool         // they have no place
	Near    Circle       // their peers are in it; zero: anywhere
	Within  netip.Prefix // their peers are in it: an IPv4 prefix of 8, 16, 24 or 32 bits
}

// A Circle is the area within Km kilometres of a place.
type Circle struct{ Lat, Lon, Km float64 }

// A Term is a condition on a connection, in words. It is a comparable value.
//
// Key says what Value, which is in lower case, is compared with:
//
//	port       the port of either end, as a number
//	ip         what the peer's address begins with
//	agent      a part of the agent's name; also host
//	app        a part of the program's name or path
//	name       a part of the peer's name, or *.example.com for all names below a domain
//	org        a part of the name of the peer's organisation
//	as         the number of its autonomous system, also after "as"
//	country    its country, by Countries
//	rule       a part of the rule's label
//	proto dir  the protocol, the direction
//	container  a part of the container's name
//	empty      a part of any text or, by Countries, the country
//
// Other keys, such as city and state, are not stored.
type Term struct {
	Key, Value string
	Not        bool   // the condition must not hold; it does not hold for unknown values
	Countries  string // codes of the countries that Value may mean, separated by spaces
}

// String returns the term as people write it: -key:value.
func (t Term) String() string {
	s := t.Value
	if t.Key != "" {
		s = t.Key + ":" + s
	}
	if t.Not {
		s = "-" + s
	}
	return s
}

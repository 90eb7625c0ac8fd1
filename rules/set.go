// Package rules gives connections labels and colours by their ports and
// programs. It does not filter or block anything.
//
// A rules file has one rule on each line, and the first that matches wins:
//
//	# "Label",type,target,R,G,B,A,ShowText,Beep
//	"Webserver",local,443,47,129,247,255,0,0
//	"IRC",peer,6660-6697,230,190,40,255,1,0
//	"Torrents",app,qbittorrent,255,98,176,255,0,0
//
// Type is local, peer or app. The target of local and peer is a port or a
// range of ports; that of app is a program (see Set.Index). R, G, B and A are
// the colour and its opacity; ShowText and Beep are 0 or 1. Fields may stand
// in double quotes, in which "" is one quote, and have blanks around them.
// Lines that are empty or begin with # say nothing.
//
// Colours are from 0 to 1, as connmapperl writes them, or from 0 to 255. If
// one of the four components is above 1, all four are from 0 to 255; if none
// is and one has a decimal point or an exponent, they are from 0 to 1. For
// lines of nothing but 0 and 1 the whole file decides: they are from 0 to 255
// if another line is and no line is from 0 to 1 by its decimal point or
// exponent, otherwise from 0 to 1. A colour from 0 to 1 is rounded to the
// nearest of 255 steps. Numbers may be written in any way that Perl reads too,
// such as .5, +0.5 and 5e-1, and a line may end in commas.
package rules

import (
	_ "embed"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
)

// A Set is an immutable list of rules. It is safe for concurrent use. Of the
// zero Set and of a nil one every connection is Other.
type Set struct {
	rules []Rule

	local, peer []span
	app         map[string]int // first rule by its target
	long        map[string]int // first rule by the first commLen bytes of its longer target
	script      map[string]int // first rule by the last element of its target, a path, cut to commLen
}

// A span is the ports from first to the one before the next span, and their
// first rule or none.
type span struct {
	first uint16
	rule  int
}

const (
	none    = math.MaxInt // after all rules
	commLen = 15          // the kernel cuts names of processes to so many bytes
)

// DefaultFile is the rules file for those who have none yet. It explains
// itself, for people to edit a copy.
//
//go:embed default.connmaprc
var DefaultFile string

// Default returns the rules of DefaultFile.
func Default() *Set { return parsed() }

// parsed takes a megabyte and a millisecond.
var parsed = sync.OnceValue(func() *Set {
	s, err := Parse(strings.NewReader(DefaultFile))
	if err != nil {
		panic("rules: default file: " + err.Error())
	}
	return s
})

// newSet indexes rules whose targets are valid: ports has, for each that is
// not of type App, its range.
func newSet(rules []Rule, ports [][2]uint16) *Set {
	s := &Set{rules: rules, app: make(map[string]int), long: make(map[string]int), script: make(map[string]int)}
	s.local = spans(rules, ports, Local)
	s.peer = spans(rules, ports, Peer)
	for i, r := range slices.Backward(rules) {
		if r.Type != App {
			continue
		}
		s.app[r.Target] = i
		if len(r.Target) > commLen {
			s.long[r.Target[:commLen]] = i
		}
		if slash := strings.LastIndexByte(r.Target, '/'); slash >= 0 {
			base := r.Target[slash+1:]
			s.script[base[:min(len(base), commLen)]] = i
		}
	}
	return s
}

// spans gives each port its first rule of a type.
func spans(rules []Rule, ports [][2]uint16, typ Type) []span {
	byPort := make([]int, 1<<16)
	free := make([]int, 1<<16+1) // a port without a rule, or one nearer to the next such port
	for p := range free {
		free[p] = p
		if p < len(byPort) {
			byPort[p] = none
		}
	}
	next := func(p int) int {
		for free[p] != p {
			free[p] = free[free[p]]
			p = free[p]
		}
		return p
	}
	for i, r := range rules {
		if r.Type != typ {
			continue
		}
		for p := next(int(ports[i][0])); p <= int(ports[i][1]); p = next(p) {
			byPort[p] = i
			free[p] = p + 1
		}
	}
	var list []span
	for p, rule := range byPort {
		if n := len(list) - 1; n < 0 || list[n].rule != rule {
			list = append(list, span{uint16(p), rule})
		}
	}
	return list
}

// Rules returns the rules in the order of the file, followed by Other. The
// slice is the caller's. Several rules may have one label.
func (s *Set) Rules() []Rule {
	if s == nil {
		return []Rule{Other}
	}
	return append(slices.Clone(s.rules), Other)
}

// Match returns the first rule that matches a connection, or Other and false.
func (s *Set) Match(c Conn) (Rule, bool) {
	i := s.Index(c)
	if s == nil || i == len(s.rules) {
		return Other, false
	}
	return s.rules[i], true
}

// Index returns where the rule of a connection stands in Rules; that of Other
// is the last. It does not allocate.
//
// A rule of type App matches if its target is the connection's Comm, its Exe
// or the last element of its Exe. Since the kernel cuts Comm to 15 bytes,
// a longer target also matches a Comm of its first 15 bytes, unless Exe goes
// on from there and so tells the whole name. A script has its own name for
// Comm but an interpreter for Exe: the target /usr/bin/deluge also matches the
// Comm deluge, unless the last element of Exe begins with it too.
func (s *Set) Index(c Conn) int {
	if s == nil {
		return 0
	}
	i := min(len(s.rules), atPort(s.local, c.Local), atPort(s.peer, c.Peer))
	if len(s.app) == 0 {
		return i
	}
	base := c.Exe[strings.LastIndexByte(c.Exe, '/')+1:]
	i = min(i, first(s.app, c.Comm), first(s.app, c.Exe), first(s.app, base))
	if len(c.Comm) == commLen && !strings.HasPrefix(base, c.Comm) && !strings.HasPrefix(c.Exe, c.Comm) {
		i = min(i, first(s.long, c.Comm))
	}
	if !strings.HasPrefix(base, c.Comm) {
		i = min(i, first(s.script, c.Comm))
	}
	return i
}

// first returns the first rule for a name, or none.
func first(m map[string]int, name string) int {
	if i, ok := m[name]; ok {
		return i
	}
	return none
}

// atPort returns the first rule for a port, or none.
func atPort(list []span, port uint16) int {
	i := sort.Search(len(list), func(i int) bool { return list[i].first > port })
	if i == 0 {
		return none
	}
	return list[i-1].rule
}

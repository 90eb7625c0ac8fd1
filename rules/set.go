// Package rules labels and colours connections by their ports and programs. It neither filters
// nor blocks anything.
//
// A rules file has one rule on each line, and the first that matches wins:
//
//	# "Label",type,target,R,G,B,A,ShowText,Beep
//	"Webserver",local,443,47,129,247,255,0,0
//	"IRC",peer,6660-6697,230,190,40,255,1,0
//	"Torrents",app,qbittorrent,255,98,176,255,0,0
//	"Code",name,*.example.com,150,120,255,255,0,0
//
// Type is local, peer, app or name. The target of local and peer is a port or a range of ports;
// that of app is a program, that of name the name of a peer, see [Set.Index]. Programs older than the
// type name skip its lines. R, G, B and A are the colour and its opacity; ShowText
// and Beep are 0 or 1. Fields may be in double quotes, in which "" is one quote, and may have
// blanks around them. Empty lines and lines that begin with # are ignored.
//
// The components of a colour are from 0 to 1, as connmapperl writes them, or from 0 to 255. If
// one of the four is above 1, all four are from 0 to 255. Otherwise, if one has a decimal
// point or an exponent, they are from 0 to 1. Lines with only 0 and 1 depend on the rest of
// the file. They are from 0 to 255 if another line is, and no line has a decimal point or an
// exponent. Colours from 0 to 1 are rounded to the nearest of 255 steps. Numbers may have any
// form that Perl reads, such as .5, +0.5 and 5e-1. A line may end in commas.
package rules

import (
	_ "embed"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
)

// A Set is an immutable list of rules. It is safe for concurrent use. With the zero Set and
// with a nil one, every connection is Other.
type Set struct {
	rules []Rule

	local, peer []span
	app         map[string]int // target: its first rule
	long        map[string]int // first commLen bytes of a longer target: their first rule
	script      map[string]int // last element of a target that is a path, cut to commLen: its first rule
	name        map[string]int // target in lower case: its first rule
	domain      map[string]int // what follows "*" in one: its first rule
}

// A span is the ports from first to the one before the next span. They have the same first rule,
// or none.
type span struct {
	first uint16
	rule  int
}

const (
	none    = math.MaxInt // greater than the index of any rule
	commLen = 15          // maximum length of the kernel's names of processes
)

// DefaultFile is the rules file for users who have none yet. It explains its format, so that
// people can edit a copy.
//
//go:embed default.connmaprc
var DefaultFile string

// Default returns the Set of DefaultFile.
func Default() *Set { return parsed() }

// parsed parses DefaultFile once, which takes a megabyte and a millisecond.
var parsed = sync.OnceValue(func() *Set {
	s, err := Parse(strings.NewReader(DefaultFile))
	if err != nil {
		panic("rules: default file: " + err.Error())
	}
	return s
})

// newSet indexes valid rules. ports has the range of each rule of type Local or Peer.
func newSet(rules []Rule, ports [][2]uint16) *Set {
	s := &Set{rules: rules, app: make(map[string]int), long: make(map[string]int), script: make(map[string]int), name: make(map[string]int), domain: make(map[string]int)}
	s.local = spans(rules, ports, Local)
	s.peer = spans(rules, ports, Peer)
	for i, r := range slices.Backward(rules) {
		if r.Type == Name {
			target := strings.ToLower(r.Target)
			if domain, ok := strings.CutPrefix(target, "*"); ok {
				s.domain[domain] = i
			} else {
				s.name[target] = i
			}
		}
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

// spans returns, for each port, the first rule of a type.
func spans(rules []Rule, ports [][2]uint16, typ Type) []span {
	byPort := make([]int, 1<<16)
	free := make([]int, 1<<16+1) // a port without a rule, or one closer to the next such port
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

// Rules returns the rules in the order of the file, followed by Other. The caller may change the
// slice. Several rules may have the same label.
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

// Index returns the index in Rules of the rule of a connection; that of Other is the last. It
// does not allocate.
//
// A rule of type App matches if its target is the connection's Comm, its Exe or the last
// element of its Exe. Since the kernel cuts Comm to 15 bytes, a longer target also matches a
// Comm that is its first 15 bytes, unless Exe continues that name. A script has its own name
// as Comm but an interpreter as Exe. So the target /usr/bin/deluge also matches the Comm
// deluge, unless the last element of Exe begins with it too.
//
// A rule of type Name matches if its target is the connection's Name, or if it is *. and a domain
// that the Name is below: *.example.com matches www.example.com and a.b.example.com, but not
// example.com itself.
func (s *Set) Index(c Conn) int {
	if s == nil {
		return 0
	}
	i := min(len(s.rules), atPort(s.local, c.Local), atPort(s.peer, c.Peer))
	if c.Name != "" && len(s.name)+len(s.domain) > 0 {
		i = min(i, first(s.name, c.Name))
		for at := strings.IndexByte(c.Name, '.'); at > 0 && len(s.domain) > 0; {
			i = min(i, first(s.domain, c.Name[at:]))
			next := strings.IndexByte(c.Name[at+1:], '.')
			if next < 0 {
				break
			}
			at += 1 + next
		}
	}
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

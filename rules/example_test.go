package rules_test

import (
	"fmt"
	"strings"

	"github.com/connmapgo/connmap/rules"
)

func Example() {
	set, err := rules.Parse(strings.NewReader(`
# First match wins.
"Torrents",app,transmission-daemon,255,98,176,255,0,0
"Webserver",local,443,47,129,247,255,0,0
"IRC",peer,6660-6697,217,180,0,255,1,0
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range []rules.Conn{
		{Local: 443, Peer: 50000, Comm: "nginx"},
		{Local: 50000, Peer: 6667, Comm: "irssi"},
		{Local: 50001, Peer: 6667, Comm: "transmission-da", Exe: "/usr/bin/transmission-daemon"},
		{Local: 50002, Peer: 4711},
	} {
		rule, ok := set.Match(c)
		fmt.Println(rule.Label, ok)
	}
	// Output:
	// Webserver true
	// IRC true
	// Torrents true
	// Other false
}

func ExampleParse_error() {
	set, err := rules.Parse(strings.NewReader(`"Webserver",local,https,47,129,247,255,0,0
"Webserver",local,443,47,129,247,255,0,0
`))
	fmt.Printf("rules: %s: %v\n", "connmaprc", err)
	rule, _ := set.Match(rules.Conn{Local: 443})
	fmt.Println(rule.Label)
	// Output:
	// rules: connmaprc: line 1: expected a port from 1 to 65535 or a range such as 6660-6697, found "https"
	// Webserver
}

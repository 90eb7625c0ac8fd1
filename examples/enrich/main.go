// Command enrich looks up where addresses are and who announces them. It reads lines with an
// address each, and writes a line of JSON for each.
// It does not use the network: it looks up in the embedded tables, or in files.
//
//	$ echo 198.41.0.4:443 firefox | enrich
//	{"address":"198.41.0.4","country":"US","lat":39.05,"lon":-77.87,"precision":"country","asn":397197,"org":"VRSN-AC28","rule":"Web Surfing"}
//
// A line is an address, or an address with a port, such as [2001:db8::1]:443. After a space
// the name of the program may follow, which some rules use.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/connmapgo/connmap/asn"
	asntable "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/geoip"
	geotable "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/rules"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "enrich:", err)
		os.Exit(1)
	}
}

// tables are what addresses are looked up in.
type tables struct {
	places   *geoip.DB
	networks *asn.DB
	rules    *rules.Set
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	t := tables{geotable.DB(), asntable.DB(), rules.Default()}
	f := flag.NewFlagSet("enrich", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Func("geo", "`file` with places, such as GeoLite2-City.mmdb (default the embedded countries)", func(name string) (err error) {
		t.places, err = geoip.Open(name)
		return err
	})
	f.Func("asn", "`file` with networks, such as GeoLite2-ASN.mmdb (default the embedded networks)", func(name string) (err error) {
		t.networks, err = asn.Open(name)
		return err
	})
	f.Func("rules", "`file` of rules in the format of connmaprc (default connmap's default rules)", func(name string) error {
		r, err := os.Open(name)
		if err != nil {
			return err
		}
		defer r.Close()
		set, err := rules.Parse(r)
		if set == nil {
			return err
		}
		if t.rules = set; err != nil {
			fmt.Fprintf(stderr, "enrich: %s: the other rules are used\n%v\n", name, err)
		}
		return nil
	})
	f.Usage = func() {
		fmt.Fprint(stderr, "enrich reads lines of ADDRESS[:PORT] [PROGRAM] and writes a line of JSON for each.\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	lines, encoder := bufio.NewScanner(stdin), json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			if err := encoder.Encode(t.lookUp(line)); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

// An answer is the output for a line, without unknown fields.
type answer struct {
	Address   string   `json:"address"`
	Country   string   `json:"country,omitempty"`
	City      string   `json:"city,omitempty"`
	Lat       *float64 `json:"lat,omitempty"`
	Lon       *float64 `json:"lon,omitempty"`
	Precision string   `json:"precision,omitempty"`
	ASN       uint32   `json:"asn,omitempty"`
	Org       string   `json:"org,omitempty"`
	Rule      string   `json:"rule,omitempty"` // only of an address with a port
	Error     string   `json:"error,omitempty"`
}

func (t tables) lookUp(line string) answer {
	text, program, _ := strings.Cut(line, " ")
	peer, err := netip.ParseAddrPort(text)
	addr, port := peer.Addr(), peer.Port()
	if err != nil {
		if addr, err = netip.ParseAddr(text); err != nil {
			return answer{Address: text, Error: "neither an address nor an address with a port"}
		}
	}
	a := answer{Address: addr.String()}
	if p, ok := t.places.Lookup(addr); ok {
		a.Country, a.City, a.Lat, a.Lon, a.Precision = p.Country, p.City, &p.Lat, &p.Lon, p.Precision.String()
	}
	if as, ok := t.networks.Lookup(addr); ok {
		a.ASN, a.Org = as.Number, as.Org
	}
	if port != 0 {
		r, _ := t.rules.Match(rules.Conn{Peer: port, Comm: strings.TrimSpace(program)})
		a.Rule = r.Label
	}
	return a
}

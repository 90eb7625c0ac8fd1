// Command ip2asn reports who holds addresses and AS numbers, from files on this machine. It asks
// no server.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/adrg/xdg"

	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/asn/whois"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/internal/program"
	"github.com/connmapgo/connmap/internal/terminal"
)

// version is set by the linker for releases.
var version string

func main() {
	program.Main("ip2asn", func(ctx context.Context, stdout, stderr io.Writer) error {
		return run(ctx, os.Args[1:], os.Stdin, stdout, stderr)
	}, "whois", "asn")
}

// options holds the command line.
type options struct {
	files         whois.Files
	json, version bool
	explain       bool
	questions     []string // addresses and AS numbers
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, "ip2asn", program.Version(version))
		return err
	}
	if len(o.questions) == 0 && terminal.Is(stdin) {
		return errors.New("no address given: name some, as in ip2asn 192.0.2.1, or write them to standard input; ip2asn -h explains more")
	}
	// The lines of bulk do not include aut-num records.
	o.files.NoAutNums = len(o.questions) == 0 && !o.json
	sources, err := o.files.Open(func(warning string) { fmt.Fprintln(stderr, "ip2asn:", warning) })
	if err != nil {
		return err
	}
	defer sources.Close()
	if len(o.questions) == 0 {
		return bulk(ctx, sources, o.json, stdin, stdout, stderr)
	}
	out := bufio.NewWriter(stdout)
	answered := 0
	var failed error // the last error; main prints it
	for _, q := range o.questions {
		r, err := sources.Ask(q)
		if err != nil {
			if failed != nil {
				fmt.Fprintln(stderr, "ip2asn:", plain(failed))
			}
			if failed = err; r.IsZero() {
				continue
			}
		}
		if answered++; o.json {
			writeJSON(out, r)
		} else {
			if answered > 1 {
				out.WriteByte('\n')
			}
			r.WriteText(out)
			if o.explain && err == nil && r.Addr.IsValid() {
				failed = errors.Join(failed, sources.WriteTables(out, r.Addr))
			}
		}
	}
	return errors.Join(out.Flush(), failed)
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{files: whois.Files{Places: geoembedded.DB(), Networks: asnembedded.DB()}}
	f := flag.NewFlagSet("ip2asn", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.files.Data, "data", filepath.Join(xdg.DataHome, "connmap"), "`folder` with the files that no other flag names")
	f.StringVar(&o.files.Cache, "cache", filepath.Join(xdg.CacheHome, "connmap"), "`folder` for compiled forms of files that take long to read")
	f.Var((*program.List)(&o.files.Geo), "geo", "`file` of places; may be repeated, the most exact place counts (default all in the data folder, and then the embedded countries)")
	f.Var((*program.List)(&o.files.NAT64), "nat64", "`prefix` of a NAT64 translator, such as 2001:db8:64::/96, besides 64:ff9b::/96; may be repeated")
	f.Var((*program.List)(&o.files.ASN), "asn", "`file` of the AS numbers of addresses; may be repeated, for example for IPv4 and IPv6 (default those in the data folder, then the embedded table)")
	f.StringVar(&o.files.Orgs, "orgs", "", "`file` of organisations: CAIDA's as-org2info or caida_asn_to_name.dbm (default one in the data folder)")
	f.Var((*program.List)(&o.files.RIR), "rir", "`file` of a registry's delegations; may be repeated (default all in the data folder)")
	f.Var((*program.List)(&o.files.AutNum), "autnum", "`file` of a registry's aut-num records; may be repeated (default all in the data folder)")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	f.BoolVar(&o.explain, "explain", false, "also print what each table says of an address, and which counts")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprint(stderr, `ip2asn reports who holds addresses and AS numbers, without asking a server.

  ip2asn 192.0.2.1 2001:db8::1   report the delegation, the organisation, all AS numbers of
                                 the same holder, the place, the AS and its aut-num record
  ip2asn AS64496                 the same for an AS number
  ip2asn <addresses              print a line for each line of standard input, with the
                                 address, AS, AS name, country, registry, block, status
                                 and organisation, separated by tabs
  ip2asn -json <addresses        print a JSON object for each line, with everything

Files in the data folder are recognised by their content. Of several tables of places the
most exact place counts, of AS numbers the newest table that knows the address, and of
organisations the newest file is used. Each part of a report names its file and the file's
date. connmap-data update downloads these files.

`)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w; ip2asn -h lists the flags", err)
	}
	var err error
	f.Visit(func(set *flag.Flag) {
		if set.Name == "data" {
			_, err = os.ReadDir(o.files.Data) // the default one may be missing
		}
	})
	if err != nil {
		return o, err
	}
	o.questions = f.Args()
	if o.explain && (o.json || len(o.questions) == 0) {
		return o, errors.New("-explain is for addresses on the command line, without -json")
	}
	for _, q := range o.questions {
		if strings.HasPrefix(q, "-") {
			return o, fmt.Errorf("unexpected argument %q: put flags before addresses", q)
		}
	}
	return o, nil
}

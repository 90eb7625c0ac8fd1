// Command ip2asn tells who holds addresses and AS numbers, from files that lie
// on this machine.
// It asks no server.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/asn"
	asnembedded "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/geoip"
	geoembedded "github.com/connmapgo/connmap/geoip/embedded"
)

// version is set by the linker for releases.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ip2asn:", strings.TrimPrefix(err.Error(), "asn: "))
		os.Exit(1)
	}
}

// options is what the command line says.
type options struct {
	data, cache, geo, orgs string
	asn, rir, autNum       list
	json, version          bool
	questions              []string
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, "ip2asn", version)
		return err
	}
	if len(o.questions) == 0 && isTerminal(stdin) {
		return errors.New("no address named: ip2asn 192.0.2.1, or addresses on standard input; ip2asn -h tells more")
	}
	w, err := o.open(stderr)
	if err != nil {
		return err
	}
	if w.AutNums != nil {
		defer w.AutNums.Close()
	}
	if len(o.questions) == 0 {
		return bulk(ctx, w, o.json, stdin, stdout, stderr)
	}
	out := bufio.NewWriter(stdout)
	answered := 0
	var failed error // the last; main tells of it
	for _, q := range o.questions {
		r, err := w.Ask(q)
		if err != nil {
			if failed != nil {
				fmt.Fprintln(stderr, "ip2asn:", strings.TrimPrefix(failed.Error(), "asn: "))
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
		}
	}
	return errors.Join(out.Flush(), failed)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("ip2asn", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.data, "data", filepath.Join(xdg.DataHome, "connmap"), "`folder` in which files that no flag names are looked for")
	f.StringVar(&o.cache, "cache", filepath.Join(xdg.CacheHome, "connmap"), "`folder` for what takes long to read")
	f.StringVar(&o.geo, "geo", "", "`file` of places (default one in the data folder, else the embedded countries)")
	f.Var(&o.asn, "asn", "`file` of the AS numbers of addresses; may be repeated, as those of IPv4 and IPv6 may be two (default in the data folder, and then the embedded table)")
	f.StringVar(&o.orgs, "orgs", "", "`file` of organisations: CAIDA's as-org2info or caida_asn_to_name.dbm (default one in the data folder)")
	f.Var(&o.rir, "rir", "`file` of delegations of a registry; may be repeated (default all in the data folder)")
	f.Var(&o.autNum, "autnum", "`file` of aut-num records of a registry; may be repeated (default all in the data folder)")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprint(stderr, `ip2asn tells who holds addresses and AS numbers, without asking a server.

  ip2asn 192.0.2.1 2001:db8::1   the delegation, the organisation, all AS numbers of the
                                 same holder, the place, the AS and its aut-num record
  ip2asn AS64496                 the same of an AS number
  ip2asn <addresses              a line for each of standard input, with tabs between
                                 address, AS, its name, country, registry, block, status
                                 and organisation
  ip2asn -json <addresses        one object for each, with everything

Files in the data folder are told by their content; of places, AS numbers and
organisations the newest counts. Each part stands with the file it comes from and the date of that; connmap-data
update downloads these files.

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
			_, err = os.ReadDir(o.data) // the default one may be missing
		}
	})
	if err != nil {
		return o, err
	}
	o.questions = f.Args()
	for _, q := range o.questions {
		if strings.HasPrefix(q, "-") {
			return o, fmt.Errorf("unexpected argument %q: flags stand before addresses", q)
		}
	}
	return o, nil
}

// open opens the files. One that is named must be good; one that was only found is
// left out with a warning if it is not.
func (o *options) open(stderr io.Writer) (*asn.Whois, error) {
	w := &asn.Whois{}
	found := o.files(stderr)
	// try opens the named files, else those found.
	try := func(named, found []string, open func(name string) error) error {
		for _, name := range named {
			if err := open(name); err != nil {
				return err
			}
		}
		if len(named) > 0 {
			return nil
		}
		for _, name := range found {
			if err := open(name); err != nil {
				leaveOut(stderr, err)
			}
		}
		return nil
	}
	one := func(name string) []string {
		if name == "" {
			return nil
		}
		return []string{name}
	}

	var places []geoTable
	err := try(one(o.geo), found[asn.Unknown], func(name string) error {
		if len(places) > 0 {
			return nil
		}
		db, err := geoip.OpenCached(o.cache, nil, name)
		if db == nil {
			return err
		}
		places = append(places, geoTable{db, asn.Info{Name: filepath.Base(name), Date: db.Info().Date}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	embedded := geoembedded.DB()
	places = append(places, geoTable{embedded, asn.Info{Name: "embedded countries", Date: embedded.Info().Date}})
	w.Place = func(addr netip.Addr) (asn.Place, bool) { return place(places, addr) }

	err = try(o.asn, found[asn.TableFile], func(name string) error {
		if len(o.asn) == 0 && covers(w.ASNs) {
			return nil
		}
		db, err := asn.Open(name)
		if err == nil {
			w.ASNs = append(w.ASNs, db)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	w.ASNs = append(w.ASNs, asnembedded.DB())

	err = try(one(o.orgs), found[asn.OrgFile], func(name string) error {
		if w.Orgs != nil {
			return nil
		}
		orgs, err := asn.OpenOrgs(name)
		if err == nil {
			w.Orgs = orgs
		}
		return err
	})
	if err != nil {
		return nil, err
	}

	// All together, since the newest of them counts, but a damaged one does no harm.
	var good []string
	rir := o.rir
	if len(rir) == 0 {
		rir = found[asn.DelegationFile]
	}
	if len(rir) > 0 {
		w.Delegations, err = asn.OpenDelegations(rir...)
		if err != nil && len(o.rir) == 0 {
			err = try(nil, rir, func(name string) error {
				_, err := asn.OpenDelegations(name)
				if err == nil {
					good = append(good, name)
				}
				return err
			})
			if len(good) > 0 {
				w.Delegations, err = asn.OpenDelegations(good...)
			}
		}
		if err != nil {
			return nil, err
		}
		if w.Delegations != nil {
			for _, warning := range w.Delegations.Warnings() {
				fmt.Fprintln(stderr, "ip2asn:", warning)
			}
		}
	}

	if len(o.questions) == 0 && !o.json {
		return w, nil // a line has no room for the record
	}
	good = nil
	cache := o.cache
	if os.MkdirAll(cache, 0o755) != nil {
		cache = "" // then it takes longer
	}
	err = try(o.autNum, found[asn.AutNumFile], func(name string) error {
		a, err := asn.OpenAutNums(cache, name)
		if err == nil {
			good = append(good, name)
			err = a.Close()
		}
		return err
	})
	if err == nil && len(good) > 0 {
		w.AutNums, err = asn.OpenAutNums(cache, good...)
	}
	return w, err
}

// covers reports whether tables know addresses of both families.
func covers(tables []*asn.DB) bool {
	v4, v6 := false, false
	for _, db := range tables {
		for r := range db.All() {
			if v4 = v4 || r.First.Is4(); r.First.Is6() {
				v6 = true
				break
			}
		}
	}
	return v4 && v6
}

// A geoTable is a table of places and where it comes from.
type geoTable struct {
	db   *geoip.DB
	info asn.Info
}

// place asks the tables in turn.
func place(tables []geoTable, addr netip.Addr) (asn.Place, bool) {
	for _, t := range tables {
		if p, ok := t.db.Lookup(addr); ok {
			return asn.Place{Lat: p.Lat, Lon: p.Lon, Country: p.Country, City: p.City, Precision: p.Precision.String(), Source: t.info}, true
		}
	}
	return asn.Place{}, false
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Command gen makes the table of package embedded from the location database
// of the IPFire Project, as Debian's packages location and libloc-database
// install it. It does not download anything. Equal databases give equal tables.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("gen", flag.ContinueOnError)
	out := flags.String("o", "asn.table", "write the table to this `file`")
	from := flags.String("dump", "", "read this `file`, which \"location dump\" wrote, instead of running that")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not understood: expected only flags", flags.Arg(0))
	}
	d, err := load(*from)
	if err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	db, err := d.table()
	if err != nil {
		return err
	}
	for addr, want := range map[string]uint32{"1.1.1.1": 13335, "8.8.8.8": 15169, "2001:4860:4860::8888": 15169} {
		if as, _ := db.Lookup(netip.MustParseAddr(addr)); as.Number != want {
			return fmt.Errorf("%s is in AS%d: expected AS%d, so the database must be wrong", addr, as.Number, want)
		}
	}
	var table bytes.Buffer
	if _, err := db.WriteTo(&table); err != nil {
		return err
	}
	if err := os.WriteFile(*out, table.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %s of %s, %d networks in %d ranges, %d bytes\n",
		*out, db.Info().Name, db.Info().Date.Format("2006-01-02"), len(d.networks), db.Info().Ranges, table.Len())
	return nil
}

// load parses a dump, or the output of "location dump" if the name is empty.
func load(name string) (*dump, error) {
	if name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		d, err := parse(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return d, nil
	}
	output, err := exec.Command("location", "dump").Output()
	if err != nil {
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(ee.Stderr))
		}
		return nil, fmt.Errorf("location dump: %w (Debian's packages location and libloc-database have it)", err)
	}
	d, err := parse(bytes.NewReader(output))
	if err != nil {
		return nil, fmt.Errorf("location dump: %w", err)
	}
	return d, nil
}

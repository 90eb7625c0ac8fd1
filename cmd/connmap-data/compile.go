package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/temp"
)

func (a *app) runCompile(args []string) error {
	f := a.flags("compile", `usage: connmap-data compile FILE [-o OUT]

Compiles a table of places into a file that programs open at once, without
reading it whole. The table may be a CSV file of DB-IP or GeoLite2, connmap's
ipv4.csv or an .mmdb file. This command does not use the network.`)
	out := f.String("o", "", "`file` to write (default FILE with its endings replaced by .cmgeo)")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("compile needs one FILE, found %d; connmap-data compile -h explains", len(rest))
	}
	source, target := rest[0], *out
	if target == "" {
		target = compiledName(source)
	}
	if same(source, target) {
		return errors.New("the compiled file would replace its source: name another file with -o")
	}
	err = temp.Replaceable(target, "compiled table", func(head []byte) bool { return bytes.HasPrefix(head, []byte("cmgeoip\x00")) })
	if err != nil {
		return err
	}
	began := time.Now()
	b := &bar{w: a.stderr, screen: a.screen, name: "compile", delay: time.Second}
	info, err := geoip.CompileFile(source, target, func(done, size int64) {
		if b.begin.IsZero() {
			b.start(0, size)
		}
		b.set(done)
	})
	b.clear()
	if err != nil {
		return err
	}
	written, err := os.Stat(target)
	if err != nil {
		return err
	}
	level := ""
	if info.CountryLevel {
		level = ", countries only"
	}
	fmt.Fprintf(a.stdout, "%s: %s rows of %s%s, %s, in %v\n", target, numbers.Thousands(int64(info.Ranges)), dateOf(info.Date), level,
		numbers.Bytes(written.Size()), time.Since(began).Round(10*time.Millisecond))
	db, err := geoip.Open(target)
	if err != nil {
		return err
	}
	for _, remark := range db.Remarks() {
		fmt.Fprintf(a.stderr, "connmap-data: %s: %s\n", source, remark)
	}
	return nil
}

// compiledName returns the default name of the compiled form of a file.
func compiledName(source string) string {
	dir, base := filepath.Split(source)
	for _, ending := range []string{".gz", ".xz", ".csv", ".tsv", ".txt", ".mmdb"} {
		base = strings.TrimSuffix(base, ending)
	}
	return dir + base + ".cmgeo"
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

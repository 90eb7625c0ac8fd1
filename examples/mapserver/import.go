package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/temp"
	"github.com/connmapgo/connmap/rules"
)

// The files of connmapperl, beside connmapperlRules.
var (
	perlHistory = ".connmap-history2.sqlite"
	perlCounts  = ".connmap-history2.dat"
	perlTables  = "resources"
)

const maxTextFile = 1 << 20 // bytes of rules, a certificate or a key

// An importer copies the files of a folder of connmapperl to where connmap finds them. It
// changes nothing there, and skips files that are missing or damaged.
type importer struct {
	dir               string // of connmapperl
	configDir, data   string // of connmap
	out               io.Writer
	log               *slog.Logger
	took, left, fails int             // numbers of files
	reported          map[string]bool // names of files
}

// runImport imports a folder of connmapperl.
func runImport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("mapserver import", flag.ContinueOnError)
	f.SetOutput(stderr)
	im := &importer{out: stdout, log: slog.New(slog.NewTextHandler(stderr, nil))}
	f.StringVar(&im.configDir, "config", configDir(), "`folder` for the rules, the certificate and its key")
	f.StringVar(&im.data, "data", filepath.Join(xdg.DataHome, "connmap"), "`folder` for the history and the tables")
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver import copies the files of a connmapperl folder to where connmap finds them.

  mapserver import DIR     rules, histories, certificate, key and tables for look-ups

DIR is not changed. Files that connmap has already are kept, except for the rules and the
counts of places: of these it keeps a copy. You can repeat the import.

`)
		f.PrintDefaults()
	}
	if err := parseCommand(f, args, "import"); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return errors.New("expected one folder: mapserver import DIR")
	}
	im.dir = f.Arg(0)
	return im.run(ctx)
}

func (im *importer) run(ctx context.Context) error {
	info, err := os.Stat(im.dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: unpack it, then name the folder", im.dir)
	}
	if _, err := os.ReadDir(im.dir); err != nil {
		return fmt.Errorf("%w: run the import as a user who may read it", err)
	}
	for _, dir := range []string{im.configDir, im.data} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if same, err := os.Stat(dir); err == nil && os.SameFile(info, same) {
			return fmt.Errorf("%s is connmap's own folder: name that of connmapperl", im.dir)
		}
	}
	// The history gets its rules and countries from files that are imported before it.
	steps := []func(context.Context){im.rules, im.certificate, im.tables, im.history, im.counts, im.programs, im.others}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		step(ctx)
	}
	if im.took+im.left+im.fails == 0 {
		return fmt.Errorf("%s has no files of connmapperl: name the folder that has its programs and the folder resources", im.dir)
	}
	if im.took > 0 {
		fmt.Fprint(im.out, "\nconnmapperl's password is in its program: write it into a file, and start the server with\n\n    mapserver -password-file FILE\n\n")
	}
	if im.fails > 0 {
		return fmt.Errorf("%s could not be imported, see above; fix the causes and import again", numbers.Count(im.fails, "file", "files"))
	}
	return nil
}

// logFile prints what became of a file.
func (im *importer) logFile(what, name, format string, args ...any) {
	if im.reported == nil {
		im.reported = make(map[string]bool)
	}
	for _, one := range strings.Split(name, ", ") {
		im.reported[one] = true
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	fmt.Fprintf(im.out, "%-7s %s: %s\n", what, name, fmt.Sprintf(format, args...))
}

func (im *importer) take(name, format string, args ...any) {
	im.took++
	im.logFile("took", name, format, args...)
}

// leave counts and reports a file that need not be imported.
func (im *importer) leave(name, format string, args ...any) {
	im.left++
	im.logFile("left", name, format, args...)
}

// fail counts and reports a file that should have been imported.
func (im *importer) fail(name string, err error) {
	im.fails++
	text := brief(err)
	if errors.Is(err, context.Canceled) {
		text = "interrupted; import again"
	}
	for _, prefix := range []string{"history: ", "storable: ", "geoip: ", "asn: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	im.logFile("failed", name, "%s", text)
}

// brief returns an error in one line: of joined errors the first three.
func brief(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if more := len(lines) - 3; more > 0 {
		lines = append(lines[:3], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

// missing reports whether a file does not exist.
func (im *importer) missing(name string) bool {
	_, err := os.Lstat(filepath.Join(im.dir, name))
	return errors.Is(err, fs.ErrNotExist)
}

// open opens a regular file of at most maxSize bytes for reading.
func (im *importer) open(name string, maxSize int64) (*os.File, error) {
	name = filepath.Join(im.dir, name)
	// To open a pipe would block.
	info, err := os.Stat(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > maxSize:
		return nil, fmt.Errorf("it has %d bytes, expected at most %d", info.Size(), maxSize)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return f, nil
}

func (im *importer) read(name string, maxSize int64) ([]byte, error) {
	f, err := im.open(name, maxSize)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize))
}

// backUp copies a file that is about to be replaced, and returns a phrase that says so.
func backUp(name string) (said string, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	kept := name + ".before-import-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := temp.Write(kept, 0o600, b); err != nil {
		return "", err
	}
	return "; the file it replaces is kept as " + kept, nil
}

func (im *importer) rules(context.Context) {
	target, note := config{configDir: im.configDir}.ownRules()
	if note != "" {
		note = "; " + note
	}
	found := ""
	for _, name := range connmapperlRules {
		switch {
		case im.missing(name):
			continue
		case found != "":
			im.leave(name, "%s is used", found)
			continue
		}
		found = name
		b, err := im.read(name, maxTextFile)
		if err != nil {
			im.fail(name, err)
			continue
		}
		set, err := rules.Parse(bytes.NewReader(b))
		n := 0
		if set != nil {
			n = len(set.Rules()) - 1
		}
		if n == 0 {
			im.fail(name, errors.Join(errors.New("it has no rule that can be read"), err))
			continue
		}
		wrong := ""
		if err != nil {
			wrong = ", without lines that cannot be read (" + brief(err) + ")"
		}
		old, err := os.ReadFile(target)
		if err == nil && bytes.Equal(old, b) {
			im.leave(name, "%s is the same already", target)
			continue
		}
		said := ""
		if string(old) != rules.DefaultFile {
			said, err = backUp(target)
		} else {
			err = nil // nobody has edited it
		}
		if err == nil {
			err = temp.Write(target, 0o600, b)
		}
		if err != nil {
			im.fail(name, err)
			continue
		}
		im.take(name, "%s to %s%s%s%s", numbers.Count(n, "rule", "rules"), target, wrong, said, note)
	}
}

// certificate imports the certificate and its key, which are useless without each other.
func (im *importer) certificate(context.Context) {
	const cert, key = "server-cert.pem", "server-key.pem"
	name := cert + ", " + key
	switch noCert, noKey := im.missing(cert), im.missing(key); {
	case noCert && noKey:
		return
	case noCert:
		im.leave(key, "it is useless without %s", cert)
		return
	case noKey:
		im.leave(cert, "it is useless without %s", key)
		return
	}
	certPEM, err := im.read(cert, maxTextFile)
	keyPEM, keyErr := im.read(key, maxTextFile)
	if err = errors.Join(err, keyErr); err == nil {
		_, err = tls.X509KeyPair(certPEM, keyPEM)
	}
	if err != nil {
		im.fail(name, err)
		return
	}
	certTo, keyTo := filepath.Join(im.configDir, cert), filepath.Join(im.configDir, key)
	oldCert, certErr := os.ReadFile(certTo)
	oldKey, keyErr := os.ReadFile(keyTo)
	switch {
	case bytes.Equal(oldCert, certPEM) && bytes.Equal(oldKey, keyPEM):
		im.leave(name, "%s has the same already", im.configDir)
		return
	case !errors.Is(certErr, fs.ErrNotExist) || !errors.Is(keyErr, fs.ErrNotExist):
		im.leave(name, "%s has others already, by which agents may know this server; move those away to import these", im.configDir)
		return
	}
	// Key first: a server can make a certificate for a key, but not the reverse.
	if err := errors.Join(temp.Write(keyTo, 0o600, keyPEM), temp.Write(certTo, 0o644, certPEM)); err != nil {
		im.fail(name, err)
		return
	}
	im.take(name, "to %s", im.configDir)
}

// tables imports the tables for look-ups.
func (im *importer) tables(ctx context.Context) {
	entries, err := os.ReadDir(filepath.Join(im.dir, perlTables))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			im.fail(perlTables, errors.Unwrap(err))
		}
		return
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		im.table(ctx, filepath.Join(perlTables, e.Name()))
	}
}

func (im *importer) table(ctx context.Context, name string) {
	base := filepath.Base(name)
	switch strings.ToLower(filepath.Ext(base)) {
	case ".png", ".jpg", ".svg":
		im.leave(name, "connmap draws its own map")
		return
	case ".wav":
		im.leave(name, "connmap has its own tone; -sound %s plays this one", filepath.Join(im.dir, name))
		return
	}
	f, err := im.open(name, maxFile)
	if err != nil {
		im.fail(name, err)
		return
	}
	f.Close()
	what, err := examine(filepath.Join(im.dir, name))
	switch {
	case errors.Is(err, errUnknown) && slices.ContainsFunc(perlTableNames, func(pattern string) bool { ok, _ := filepath.Match(pattern, base); return ok }):
		im.fail(name, errors.New("its content does not match its name"))
		return
	case errors.Is(err, errUnknown):
		im.leave(name, "connmap does not know this kind of table")
		return
	case err != nil:
		im.fail(name, errors.New(strings.ReplaceAll(err.Error(), filepath.Join(im.dir, name)+": ", "")))
		return
	}
	target := filepath.Join(im.data, base)
	if _, err := os.Lstat(target); err == nil {
		if same, err := im.same(ctx, name, target); err != nil {
			im.fail(name, err)
		} else if same {
			im.leave(name, "%s is the same already", target)
		} else {
			im.leave(name, "%s exists already and differs; move it away to import this one", target)
		}
		return
	}
	part, err := temp.Create(im.data, base+".*.import")
	if err == nil {
		defer os.Remove(part.Name())
		err = errors.Join(im.copy(ctx, name, part), part.Chmod(0o644), part.Close())
	}
	if err == nil {
		if info, statErr := os.Stat(filepath.Join(im.dir, name)); statErr == nil {
			// Tables without a date of their own get that of the file.
			os.Chtimes(part.Name(), info.ModTime(), info.ModTime())
		}
		err = temp.Place(part.Name(), target)
	}
	if err != nil {
		im.fail(name, err)
		return
	}
	im.take(name, "%s to %s", what, target)
}

var errUnknown = errors.New("no table")

// perlTableNames are the names of connmapperl's tables.
var perlTableNames = []string{"sorted_all-rir-delegations.txt", "caida_asn_to_name.dbm", "*.as-org2info.txt", "GeoLite2-ASN-Blocks-IPv4.csv", "ipv4.csv", "*.db.aut-num"}

// examine reads a whole table and says what kind it is.
func examine(name string) (string, error) {
	kind, err := asn.Recognise(name)
	if err != nil {
		return "", err
	}
	switch kind {
	case asn.TableFile:
		_, err = asn.Open(name)
	case asn.DelegationFile:
		_, err = asn.OpenDelegations(name)
	case asn.OrgFile:
		_, err = asn.OpenOrgs(name)
	case asn.AutNumFile:
		var a *asn.AutNums
		if a, err = asn.OpenAutNums("", name); err == nil {
			a.Close()
		}
	default:
		if layout, err := geoip.Recognise(name); err != nil || layout == "" {
			return "", errors.Join(err, errUnknown)
		}
		_, err = geoip.Open(name)
		return "places", err
	}
	return kind.String(), err
}

// same reports whether a file of connmapperl and one of connmap have the same content.
func (im *importer) same(ctx context.Context, name, target string) (bool, error) {
	a, err := im.open(name, maxFile)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(target)
	if err != nil {
		return false, err
	}
	defer b.Close()
	var x, y [64 << 10]byte
	for {
		n, err := io.ReadFull(stoppable{ctx, a}, x[:])
		m, other := io.ReadFull(b, y[:])
		switch {
		case n != m || !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case err == nil && other == nil:
			continue
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return true, nil
		}
		return false, errors.Join(err, other)
	}
}

// programs reports connmapperl's programs, which are not imported.
func (im *importer) programs(context.Context) {
	names, _ := filepath.Glob(filepath.Join(im.dir, "*.pl"))
	for _, name := range names {
		name = filepath.Base(name)
		switch {
		case strings.HasPrefix(name, "ip2asn"):
			im.leave(name, "ip2asn replaces it")
		case strings.Contains(name, "client"):
			im.leave(name, "connmap-agent replaces it")
		case strings.Contains(name, "server"):
			im.leave(name, "mapserver replaces it")
		}
	}
}

// others reports the other files of the folder.
func (im *importer) others(context.Context) {
	const maxNamed = 10
	entries, _ := os.ReadDir(im.dir)
	n := 0
	for _, e := range entries {
		// SQLite's files beside a history belong to it.
		if name := e.Name(); !im.reported[name] && name != "resources" && !strings.HasPrefix(name, perlHistory+"-") {
			if n++; n <= maxNamed {
				im.logFile("left", name, "it is not a file of connmapperl")
			}
		}
	}
	if n > maxNamed {
		fmt.Fprintf(im.out, "%-7s %s more that are not of connmapperl\n", "left", numbers.Count(n-maxNamed, "file", "files"))
	}
}

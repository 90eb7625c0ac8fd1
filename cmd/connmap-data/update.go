package main

import (
	"archive/tar"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/connmapgo/connmap/internal/lock"
	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/unpack"
)

// lockFolder locks a folder against other updates until the returned file is closed.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := lock.Try(f); err != nil {
		f.Close()
		if errors.Is(err, lock.ErrLocked) {
			err = errors.New("another update is running in " + dir + ": wait for it to end")
		}
		return nil, err
	}
	return f, nil
}

// update updates data sets, one after the other. One that fails does not stop the others.
func (a *app) update(ctx context.Context, dir string, mirror *url.URL, chosen []set) error {
	if err := prepare(dir); err != nil {
		return err
	}
	locked, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer locked.Close()
	a.tidy(dir)
	client := a.network.client()
	var failed []string
	for _, s := range chosen {
		b := &bar{w: a.stderr, screen: a.screen, name: s.name}
		done, err := a.updateOne(ctx, client, filepath.Join(dir, s.file), mirror, s, b)
		b.clear()
		if ctx.Err() != nil {
			return errors.New("interrupted; the next update continues from here")
		}
		if err != nil {
			note := "there is no earlier file"
			if _, e := os.Stat(filepath.Join(dir, s.file)); e == nil {
				note = "the old file stays in use"
			}
			fmt.Fprintf(a.stderr, "connmap-data: %s: %v; %s\n", s.name, err, note)
			failed = append(failed, s.name)
			continue
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", s.name, done)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d data sets not updated: %s", len(failed), len(chosen), strings.Join(failed, ", "))
	}
	return nil
}

// prepare makes the folder and checks that files can be made there, before any download.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the data folder: %w; name another with -data", err)
	}
	f, err := os.CreateTemp(dir, probe+"*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		return fmt.Errorf("cannot write to the data folder: %w; name another with -data", err)
	}
	return nil
}

// partTime is how long an interrupted download is kept for the next update.
const partTime = 7 * day

// tidy removes leftovers of earlier updates: parts that are old or cannot be continued, and
// files of an update that was killed.
func (a *app) tidy(dir string) {
	for _, s := range a.sets {
		target := filepath.Join(dir, s.file)
		os.Remove(target + ".new")
		os.Remove(target + ".meta.new")
		info, err := os.Stat(target + ".part")
		if err != nil {
			continue
		}
		rec := readRecord(target)
		d := &download{part: target + ".part", rec: rec, save: func() error { return writeRecord(target, rec) }}
		if !d.resumable() || a.now().Sub(info.ModTime()) > partTime {
			d.discard()
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, probe+"*"))
	for _, name := range left {
		os.Remove(name)
	}
}

// probe begins the names of the files by which prepare checks the folder.
const probe = ".connmap-data-"

// updateOne updates one data set and returns a line on what was done.
func (a *app) updateOne(ctx context.Context, client *http.Client, target string, mirror *url.URL, s set, b *bar) (string, error) {
	began := time.Now()
	if s.terms != "" {
		b.note("%s", s.terms)
	}
	sign, err := a.signer(s, mirror)
	if err != nil {
		return "", err
	}
	addresses, err := s.addresses(a.now(), mirror)
	if err != nil {
		return "", err
	}
	rec := readRecord(target)
	d := &download{
		hosts: s.hosts, sign: sign, part: target + ".part", limit: s.limit, bar: b,
		rec: rec, save: func() error { return writeRecord(target, rec) },
	}
	for _, d.url = range addresses {
		b.from = displayURL(d.url)
		if err = a.network.fetch(ctx, client, d); !errors.Is(err, errNotFound) {
			break
		}
	}
	if errors.Is(err, errUnchanged) {
		b.busy("checking ...")
		// The record was compared by size and time only.
		in, ok := content{rows: rec.File.Rows}, rec.File.describes(target)
		if rec.File.SHA256 == "" { // of an older version
			in, ok = s.intact(target, a.now())
		}
		if !ok || in.rows != rec.File.Rows {
			b.note("the file in use is damaged; downloading it again")
			rec.File = nil
			err = a.network.fetch(ctx, client, d)
		}
	}
	// An error that a retry cannot avoid ends the download.
	if p := (temporaryError{}); err != nil && (!d.resumable() || ctx.Err() == nil && !errors.As(err, &p)) {
		d.discard()
	}
	switch {
	case errors.Is(err, errUnchanged):
		rec.File.Checked = a.now().UTC().Truncate(time.Second)
		// If this fails, only a date in status is lost.
		d.save()
		return fmt.Sprintf("up to date, %s rows of %s", numbers.Thousands(rec.File.Rows), dateOf(rec.File.Date)), nil
	case err != nil:
		return "", fmt.Errorf("%s: %w", b.from, err)
	}
	b.busy("checking ...")
	rev, err := a.install(ctx, client, target, s, d)
	if err != nil {
		// If only its checksum could not be fetched, the file may be good.
		var p temporaryError
		if ctx.Err() == nil && !errors.As(err, &p) {
			d.discard()
		}
		if o, ok := errors.AsType[olderError](err); ok {
			if rec.File != nil {
				rec.File.Checked = a.now().UTC().Truncate(time.Second)
				d.save()
			}
			return o.Error(), nil
		}
		return "", err
	}
	rec.File, rec.Part = rev, nil
	if err := d.save(); err != nil {
		return "", err
	}
	done := fmt.Sprintf("%s rows of %s, %s, in %v", numbers.Thousands(rev.Rows), dateOf(rev.Date), numbers.Bytes(rev.Size), time.Since(began).Round(100*time.Millisecond))
	return strings.Join(append([]string{done}, rev.Remarks...), "; "), nil
}

// signer returns a function that adds the keys of a source to a request. A mirror gets none.
func (a *app) signer(s set, mirror *url.URL) (func(*http.Request), error) {
	names, signUp := s.key.variables()
	if len(names) == 0 || mirror != nil {
		return nil, nil
	}
	values := make([]string, len(names))
	for i, name := range names {
		if values[i] = strings.TrimSpace(a.getenv(name)); values[i] == "" {
			return nil, fmt.Errorf("set %s in the environment; a free account has them: %s", strings.Join(names, " and "), signUp)
		}
	}
	return func(r *http.Request) { s.key.sign(r, values) }, nil
}

// install checks the downloaded file and replaces target by it.
func (a *app) install(ctx context.Context, client *http.Client, target string, s set, d *download) (*revision, error) {
	rev := *d.rec.Part
	source := d.part
	if err := a.network.verify(ctx, client, d, s.sum); err != nil {
		return nil, err
	}
	if s.archive {
		source = target + ".new"
		defer os.Remove(source)
		if err := extract(d.part, source); err != nil {
			return nil, err
		}
		defer os.Remove(d.part)
	}
	c, err := s.check(source, a.now())
	if err != nil {
		return nil, err
	}
	c.setDate(a.now(), rev.published()...)
	if err := s.older(target, c, d.rec.File, a.now()); err != nil {
		return nil, err
	}
	if old := d.rec.File; old != nil && c.rows < old.Rows/2 {
		return nil, tooFewRows(c.rows, old.Rows, target)
	} else if old == nil {
		// The file has no record: another program may have put it there.
		if in, err := inspect(target, s.content(), a.now()); err == nil && s.matches(in.kind) && c.rows < in.rows/2 {
			return nil, tooFewRows(c.rows, in.rows, target)
		}
	}
	rev.Kind, rev.Rows, rev.Date, rev.Remarks = c.kind, c.rows, c.date, c.remarks
	rev.Checked = a.now().UTC().Truncate(time.Second)
	// The modification time is the date of a file without one inside.
	if !rev.Date.IsZero() {
		if err := os.Chtimes(source, time.Time{}, rev.Date); err != nil {
			return nil, err
		}
	}
	if err := replace(source, target); err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	if err == nil {
		rev.Size, rev.ModTime = info.Size(), info.ModTime()
		rev.SHA256, err = sumOf(target)
	}
	if err != nil {
		return nil, err
	}
	return &rev, nil
}

// An olderError says that the downloaded file is older than the one in use.
type olderError struct {
	found, old time.Time
	target     string
}

func (e olderError) Error() string {
	return fmt.Sprintf("the file there is of %s, the one in use of %s: the newer stays in use; remove %s to use the older", dateOf(e.found), dateOf(e.old), e.target)
}

// published returns the dates of a file without one inside, the best first: one in the future, which
// does not count; that in its name, since a mirror may have copied the file just now, or else when
// the server's file was modified.
func (v *revision) published() []time.Time {
	modified, _ := http.ParseTime(v.LastModified)
	return []time.Time{unpack.FutureDate(v.URL, modified), unpack.Date(v.URL, modified)}
}

// older returns an error if content is older than that of a good file in target. What is known of
// target is the record of it; nil: nothing, so that only a date inside counts.
func (s set) older(target string, c content, known *revision, now time.Time) error {
	if c.date.IsZero() || known != nil && !c.date.Before(known.Date) {
		return nil
	}
	in, ok := s.intact(target, now)
	// When a file was published is later than the date that it should have inside.
	if !ok || in.misdated() {
		return nil
	}
	if known != nil {
		in.setDate(now, known.published()...)
	}
	if !c.date.Before(in.date) {
		return nil
	}
	return olderError{c.date, in.date, target}
}

// intact inspects the file in use. It is false if that is damaged or not what s should be.
func (s set) intact(target string, now time.Time) (content, bool) {
	c, err := inspect(target, s.content(), now)
	return c, err == nil && c.cutOff() == nil && s.matches(c.kind)
}

func tooFewRows(found, old int64, target string) error {
	return fmt.Errorf("has %s rows, less than half of the %s in use: refused; remove %s to use it nevertheless", numbers.Thousands(found), numbers.Thousands(old), target)
}

// check reads a file to its end and checks that it is what s should be.
func (s set) check(name string, now time.Time) (content, error) {
	c, err := inspect(name, s.content(), now)
	switch {
	case err != nil:
	case c.kind == "":
		err = fmt.Errorf("the content is not recognised: expected %s", strings.Join(s.kinds, " or "))
	case !s.matches(c.kind):
		err = fmt.Errorf("the content is of the kind %s: expected %s", c.kind, strings.Join(s.kinds, " or "))
	case c.cutOff() != nil:
		err = c.cutOff()
	case c.rows < s.minRows:
		err = fmt.Errorf("has %s rows: expected at least %s", numbers.Thousands(c.rows), numbers.Thousands(s.minRows))
	default:
		err = open(name, c)
	}
	if err != nil {
		return c, fmt.Errorf("the downloaded file is not used: %w", err)
	}
	return c, nil
}

// verify compares the downloaded file with the checksum of the server.
func (f *fetcher) verify(ctx context.Context, client *http.Client, d *download, sum checksum) error {
	if sum.new == nil {
		return nil
	}
	text, err := f.fetchText(ctx, client, d.url+sum.suffix, d)
	if sum.optional && errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checksum %s%s: %w", displayURL(d.url), sum.suffix, err)
	}
	h := sum.new()
	// As md5sum writes it before the file's name, or as BSD's md5 does after it.
	want := ""
	for _, word := range strings.Fields(text) {
		if b, err := hex.DecodeString(word); err == nil && len(b) == h.Size() {
			want = word
		}
	}
	if want == "" {
		return fmt.Errorf("checksum %s%s: expected %d hexadecimal digits, found %.70q", displayURL(d.url), sum.suffix, 2*h.Size(), text)
	}
	file, err := os.Open(d.part)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(h, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("the downloaded file is not used: its %s is %s instead of %s", sum.name, got, want)
	}
	return nil
}

// maxDB is the maximum size of an .mmdb file.
const maxDB = 1 << 30

// extract extracts the .mmdb file from an archive.
func extract(archive, target string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := unpack.Reader(file, 2*maxDB)
	if err != nil {
		return damaged(err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return errors.New("the archive has no .mmdb file")
		}
		if err != nil {
			return damaged(err)
		}
		if h.Typeflag != tar.TypeReg || path.Ext(h.Name) != ".mmdb" {
			continue
		}
		out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		// A sparse file may be larger than its archive, so the copy is limited.
		n, err := io.Copy(out, io.LimitReader(t, maxDB+1))
		if e := out.Close(); err == nil {
			err = e
		}
		if n > maxDB {
			err = unpack.ErrTooLarge
		}
		var p *fs.PathError
		switch {
		case errors.Is(err, syscall.ENOSPC):
			return fullError(target, n, h.Size)
		case errors.As(err, &p):
			return err
		case err != nil:
			return damaged(err)
		}
		return nil
	}
}

// displayURL returns a URL for messages, without secrets.
func displayURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the source"
	}
	return public(u)
}

// dateOf formats a date for people.
func dateOf(t time.Time) string {
	if t.IsZero() {
		return "unknown date"
	}
	return t.UTC().Format("2006-01-02")
}

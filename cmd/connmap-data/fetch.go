package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A fetcher downloads files. All that this program does on the network is in
// this file.
type fetcher struct {
	client func() *http.Client
	stall  time.Duration // without a byte for so long, a connection is given up
	pause  time.Duration // before the first retry, doubled for each further one
}

// retries is how often a download goes on after its connection broke.
const retries = 3

var (
	errUnchanged = errors.New("unchanged")
	errNotFound  = errors.New("not found (404)")
	errStalled   = errors.New("no data for too long")
	errRedirect  = errors.New("redirected from https to http: refused")
	errCircle    = errors.New("redirected 10 times: refused")
)

// passing is an error that may be gone at the next try.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// newClient returns a client that never sends a key elsewhere or in the clear.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	t.TLSHandshakeTimeout = 15 * time.Second
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errCircle
	}
	if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return errRedirect
	}
	// It may hold a key.
	r.Header.Del("Referer")
	return nil
}

// A download is one file on its way.
type download struct {
	url   string
	sign  func(*http.Request) // may be nil
	part  string              // name of the file that grows
	limit int64
	rec   *record
	save  func() error // keeps rec
	bar   *bar
}

// fetch downloads what is new into the part file, going on where an earlier
// run stopped. errUnchanged says that the file in use is the newest.
func (f *fetcher) fetch(ctx context.Context, client *http.Client, d *download) error {
	pause := f.pause
	for try := 0; ; try++ {
		err := f.attempt(ctx, client, d)
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		var p passing
		if !errors.As(err, &p) {
			return err
		}
		if try == retries {
			return fmt.Errorf("%w; tried %d times", p.error, try+1)
		}
		d.bar.note("%v; trying again", p.error)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

func (f *fetcher) attempt(parent context.Context, client *http.Client, d *download) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watch := time.AfterFunc(f.stall, func() { cancel(errStalled) })
	defer watch.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return unwrapURL(err)
	}
	origin := public(req.URL)
	req.Header.Set("User-Agent", "connmap-data/"+version+" (+https://github.com/connmapgo/connmap)")
	// What is checked and resumed are the bytes of the file itself.
	req.Header.Set("Accept-Encoding", "identity")
	if d.sign != nil {
		d.sign(req)
	}
	have := int64(0)
	if p := d.rec.Part; p != nil && p.URL == origin && p.validator() != "" {
		if info, err := os.Stat(d.part); err == nil {
			have = info.Size()
		}
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", d.rec.Part.validator())
	} else if v := d.rec.File; v != nil && v.URL == origin {
		if v.ETag != "" {
			req.Header.Set("If-None-Match", v.ETag)
		}
		if v.LastModified != "" {
			req.Header.Set("If-Modified-Since", v.LastModified)
		}
	}

	resp, err := client.Do(req)
	if err != nil {
		return broken(ctx, err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusNotModified && have == 0 && d.rec.File != nil:
		return errUnchanged
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		if resp.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", have) && d.rec.Part.Size == have {
			return nil // it was there already
		}
		return d.restart("the server's file has changed")
	case code == http.StatusOK:
		have = 0
	case code == http.StatusPartialContent && have > 0:
		start, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || start != have || d.rec.Part.Size >= 0 && total != d.rec.Part.Size {
			return d.restart("the server sends another part of the file than asked for")
		}
	case code == http.StatusNotFound:
		return errNotFound
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("the server refuses: %s", resp.Status)
	case code >= 500 || code == http.StatusTooManyRequests:
		return passing{fmt.Errorf("the server answers %s", resp.Status)}
	default:
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "text/html" || t == "application/xhtml+xml" {
		return errWebPage
	}
	total := int64(-1)
	if resp.ContentLength >= 0 {
		total = have + resp.ContentLength
	}
	if total > d.limit {
		return d.tooLarge()
	}
	if have == 0 {
		d.rec.Part = &revision{
			URL: origin, Size: total,
			ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
		}
	}
	return d.receive(ctx, resp.Body, have, total, func() { watch.Reset(f.stall) })
}

// receive writes the body to the part file, from offset have on.
func (d *download) receive(ctx context.Context, body io.Reader, have, total int64, alive func()) (err error) {
	defer func() {
		if errors.Is(err, syscall.ENOSPC) {
			err = d.full(have, total)
		}
	}()
	file, err := os.OpenFile(d.part, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	if err := file.Truncate(have); err != nil {
		return err
	}
	// Only now, so that what is known never belongs to other bytes.
	if err := d.save(); err != nil {
		return err
	}
	if _, err := file.Seek(have, io.SeekStart); err != nil {
		return err
	}
	d.bar.start(have, total)
	buf := make([]byte, 64<<10)
	for {
		n, readErr := body.Read(buf)
		if n > 0 {
			alive()
			if have+int64(n) > d.limit {
				return d.tooLarge()
			}
			written, err := file.Write(buf[:n])
			have += int64(written)
			if err != nil {
				return err
			}
			d.bar.set(have)
		}
		if readErr == io.EOF {
			return file.Sync()
		}
		if readErr != nil {
			return broken(ctx, readErr)
		}
	}
}

// discard removes the part file, which is of no more use.
func (d *download) discard() {
	os.Remove(d.part)
	d.rec.Part = nil
	d.save()
}

func (d *download) restart(why string) error {
	d.discard()
	return passing{errors.New(why)}
}

func (d *download) tooLarge() error {
	d.discard()
	return fmt.Errorf("larger than %s, which this data set never is: refused", size(d.limit))
}

// full explains a full disk. The part is removed, since others need the space
// more than the next update needs it.
func (d *download) full(have, total int64) error {
	d.discard()
	return fullError(d.part, have, total)
}

func fullError(name string, have, total int64) error {
	need := "more"
	if total > 0 {
		need = size(total) + ", of which " + size(have) + " fitted,"
	}
	return fmt.Errorf("no space left in %s: %s must be free there, beside the file in use", filepath.Dir(name), need)
}

// broken says what broke a connection, and whether to try again.
func broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause == errStalled {
		return passing{cause}
	} else if cause != nil {
		return cause
	}
	err = unwrapURL(err)
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout && !dns.IsTemporary, errors.As(err, &cert),
		// Of a resolver that cannot be reached, only the text is passed on.
		strings.Contains(err.Error(), syscall.ENETUNREACH.Error()), errors.Is(err, errRedirect), errors.Is(err, errCircle):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return passing{errors.New("the connection broke")}
	}
	return passing{err}
}

// unwrapURL takes the URL out of an error: it may hold a key.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// public is a URL without what may be secret.
func public(u *url.URL) string {
	c := *u
	c.User = nil
	return c.String()
}

// contentRange parses "bytes 100-199/200".
func contentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(s, "/")
	first, _, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(all, 10, 64)
	return start, total, ok && ok2 && ok3 && err == nil && err2 == nil
}

// fetchText downloads a few lines, such as a checksum.
func (f *fetcher) fetchText(ctx context.Context, client *http.Client, address string, sign func(*http.Request)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.stall, errStalled)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", unwrapURL(err)
	}
	if sign != nil {
		sign(req)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", broken(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500:
		return "", passing{fmt.Errorf("the server answers %s", resp.Status)}
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the server answers %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", broken(ctx, err)
	}
	return string(b), nil
}

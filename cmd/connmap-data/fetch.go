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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/terminal"
)

// A fetcher downloads files. Only this file uses the network.
type fetcher struct {
	client  func() *http.Client
	stall   time.Duration // a connection with less than minRate over this time is dropped
	maxTime time.Duration // for all tries of a data set
	pause   time.Duration // before the first retry, doubled for each further one
}

const (
	minRate      = 1024     // bytes a second: of a modem
	retries      = 3        // how often a download continues after its connection broke
	progressStep = 1 << 20  // bytes of progress after which the retries are counted anew
	maxHeader    = 64 << 10 // bytes of a response's header
)

var (
	errUnchanged = errors.New("unchanged")
	errNotFound  = errors.New("not found (404)")
	errStalled   = errors.New("no data for too long")
	errSlow      = fmt.Errorf("less than %s a second", numbers.Bytes(minRate))
	errLong      = errors.New("not done in time; the next update continues from there")
	errRefused   = errors.New("refused") // a redirect
)

// temporaryError is an error that a retry may avoid.
type temporaryError struct{ error }

func (p temporaryError) Unwrap() error { return p.error }

// newClient returns a client that never sends a key elsewhere or in the clear.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	t.TLSHandshakeTimeout = 15 * time.Second
	t.MaxResponseHeaderBytes = maxHeader
	return &http.Client{Transport: t}
}

// do sends a request. It follows redirects to the same server, and by https also to hosts.
func do(client *http.Client, req *http.Request, hosts []string) (*http.Response, error) {
	c := *client
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		from := via[0].URL
		switch {
		case len(via) >= 10:
			return fmt.Errorf("redirected 10 times: %w", errRefused)
		case r.URL.Scheme == "http" && from.Scheme == "https":
			return fmt.Errorf("redirected from https to http: %w", errRefused)
		case r.URL.Host == from.Host && (r.URL.Scheme == "http" || r.URL.Scheme == "https"):
		case r.URL.Scheme != "https" || r.URL.Port() != "" && r.URL.Port() != "443" ||
			r.URL.Hostname() != from.Hostname() && !slices.Contains(hosts, r.URL.Hostname()):
			return fmt.Errorf("redirected to %.*q, which is not a server of this data set: %w", terminal.Reply, r.URL.Scheme+"://"+r.URL.Host, errRefused)
		}
		// The URL may hold a key.
		r.Header.Del("Referer")
		return nil
	}
	return c.Do(req)
}

// A download is the state of downloading one file.
type download struct {
	url   string
	hosts []string            // to which the server may redirect
	sign  func(*http.Request) // may be nil
	part  string              // name of the file with the bytes so far
	limit int64
	rec   *record
	save  func() error // writes rec
	bar   *bar

	received int64 // bytes of all tries
	furthest int64 // the largest size that part has had
}

// fetch downloads a newer file into the part file, and continues where an earlier run stopped.
// The error is errUnchanged if there is no newer file.
func (f *fetcher) fetch(parent context.Context, client *http.Client, d *download) error {
	return f.retry(parent, d, func(ctx context.Context) error { return f.attempt(ctx, client, d) })
}

// retry tries again what failed in a way that a retry may avoid.
func (f *fetcher) retry(parent context.Context, d *download, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(parent, f.maxTime, errLong)
	defer cancel()
	pause := f.pause
	for try := 0; ; try++ {
		before := d.furthest
		err := attempt(ctx)
		switch {
		case err != nil && parent.Err() != nil:
			return parent.Err()
		case err != nil && ctx.Err() != nil:
			return temporaryError{errLong}
		}
		var p temporaryError
		if !errors.As(err, &p) {
			return err
		}
		if d.furthest-before >= progressStep {
			try, pause = 0, f.pause
		}
		if try == retries {
			return temporaryError{fmt.Errorf("%w; tried %d times", p.error, try+1)}
		}
		d.bar.note("%v; trying again", p.error)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// A watch drops a connection that brings less than minRate.
type watch struct {
	mu     sync.Mutex
	timer  *time.Timer
	window time.Duration
	got    int64 // in this window
	ended  bool
}

func startWatch(window time.Duration, giveUp context.CancelCauseFunc) *watch {
	w := &watch{window: window}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(window, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.ended:
		case w.got == 0:
			giveUp(errStalled)
		case float64(w.got) < minRate*window.Seconds():
			giveUp(errSlow)
		default:
			w.got = 0
			w.timer.Reset(window)
		}
	})
	return w
}

func (w *watch) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got += int64(n)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}

func userAgent() string {
	return "connmap-data/" + version + " (+https://github.com/connmapgo/connmap)"
}

func (f *fetcher) attempt(parent context.Context, client *http.Client, d *download) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watch := startWatch(f.stall, cancel)
	defer watch.stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return unwrapURL(err)
	}
	origin := public(req.URL)
	req.Header.Set("User-Agent", userAgent())
	// The bytes of the file itself are checked and resumed, not those of an encoding.
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

	resp, err := do(client, req, d.hosts)
	if err != nil {
		return broken(ctx, err)
	}
	defer resp.Body.Close()
	total := int64(-1)
	if resp.ContentLength >= 0 {
		total = resp.ContentLength
	}
	switch code := resp.StatusCode; {
	case code == http.StatusNotModified && have == 0 && d.rec.File != nil:
		return errUnchanged
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		if resp.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", have) && d.rec.Part.Size == have {
			return nil // the part file is complete
		}
		return d.restart("the server's file has changed")
	case code == http.StatusOK:
		have = 0
	case code == http.StatusPartialContent && have > 0 && d.rec.Part.differs(resp):
		return d.restart("the server's file has changed") // and the server ignores If-Range
	case code == http.StatusPartialContent && have > 0:
		start, all, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || start != have || all < have || d.rec.Part.Size >= 0 && all != d.rec.Part.Size {
			return d.restart("the server sends another part of the file than requested")
		}
		total = all
	case code == http.StatusNotFound:
		return errNotFound
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("the server refuses the request: %s", status(resp))
	case code >= 500 || code == http.StatusTooManyRequests:
		return temporaryError{fmt.Errorf("the server answers %s", status(resp))}
	default:
		return fmt.Errorf("the server answers %s", status(resp))
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "text/html" || t == "application/xhtml+xml" {
		return errWebPage
	}
	if total > d.limit {
		return d.tooLarge()
	}
	if have == 0 {
		d.rec.Part = &revision{
			URL: origin, Size: total,
			ETag: tag(resp, "ETag"), LastModified: tag(resp, "Last-Modified"),
		}
	}
	return d.receive(ctx, resp.Body, have, total, watch.add)
}

// differs reports whether a response is of another version of the file.
func (v *revision) differs(r *http.Response) bool {
	if v.ETag != "" && r.Header.Get("ETag") != "" {
		return tag(r, "ETag") != v.ETag
	}
	return v.LastModified != "" && r.Header.Get("Last-Modified") != "" && tag(r, "Last-Modified") != v.LastModified
}

// tag returns a field of a response that the next request sends back; empty if it is too long
// or has special characters.
func tag(r *http.Response, name string) string {
	s := r.Header.Get(name)
	if len(s) > terminal.Reply || terminal.Clean(s, len(s)) != s {
		return ""
	}
	return s
}

// status returns the status line of a response, safe to print.
func status(r *http.Response) string { return terminal.Clean(r.Status, terminal.Reply) }

// receive writes the body to the part file, from offset have on.
func (d *download) receive(ctx context.Context, body io.Reader, have, total int64, came func(n int)) (err error) {
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
	// The record is saved after the file is cut, so that it never describes other bytes.
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
			came(n)
			// A server that makes each try start anew is limited too.
			if d.received += int64(n); have+int64(n) > d.limit || d.received > 2*d.limit {
				return d.tooLarge()
			}
			written, err := file.Write(buf[:n])
			have += int64(written)
			d.furthest = max(d.furthest, have)
			if err != nil {
				return err
			}
			d.bar.set(have)
		}
		if readErr == io.EOF {
			if total >= 0 && have != total {
				readErr = io.ErrUnexpectedEOF
			} else {
				return file.Sync()
			}
		}
		if readErr != nil {
			return broken(ctx, readErr)
		}
	}
}

// resumable reports whether the next update can continue with the part file.
func (d *download) resumable() bool { return d.rec.Part != nil && d.rec.Part.validator() != "" }

// discard removes the part file.
func (d *download) discard() {
	os.Remove(d.part)
	d.rec.Part = nil
	d.save()
}

func (d *download) restart(why string) error {
	d.discard()
	return temporaryError{errors.New(why)}
}

func (d *download) tooLarge() error {
	d.discard()
	return fmt.Errorf("larger than %s, the limit of this data set: refused", numbers.Bytes(d.limit))
}

// full returns the error for a full disk. It removes the part file, since other programs need
// the space more.
func (d *download) full(have, total int64) error {
	d.discard()
	return fullError(d.part, have, total)
}

func fullError(name string, have, total int64) error {
	need := "more"
	if total > 0 {
		need = numbers.Bytes(total) + ", of which there was room for " + numbers.Bytes(have) + ","
	}
	return fmt.Errorf("no space left in %s: %s must be free there, beside the file in use", filepath.Dir(name), need)
}

// broken returns why a connection broke; the error is a temporaryError if a retry may help.
func broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause == errStalled || cause == errSlow {
		return temporaryError{cause}
	} else if cause != nil {
		return cause
	}
	err = unwrapURL(err)
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout && !dns.IsTemporary, errors.As(err, &cert),
		// If no resolver can be reached, only this text says so.
		strings.Contains(err.Error(), syscall.ENETUNREACH.Error()), errors.Is(err, errRefused):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return temporaryError{errors.New("the connection broke")}
	}
	// The text may quote what a server sent.
	return temporaryError{errors.New(terminal.Clean(err.Error(), terminal.Reply))}
}

// unwrapURL removes the URL from an error, since it may hold a key.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// public returns a URL without user and password.
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
func (f *fetcher) fetchText(ctx context.Context, client *http.Client, address string, d *download) (text string, err error) {
	err = f.retry(ctx, d, func(ctx context.Context) (err error) {
		text, err = f.attemptText(ctx, client, address, d)
		return err
	})
	return text, err
}

func (f *fetcher) attemptText(ctx context.Context, client *http.Client, address string, d *download) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.stall, errStalled)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", unwrapURL(err)
	}
	req.Header.Set("User-Agent", userAgent())
	if d.sign != nil {
		d.sign(req)
	}
	resp, err := do(client, req, d.hosts)
	if err != nil {
		return "", broken(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return "", temporaryError{fmt.Errorf("the server answers %s", status(resp))}
	case resp.StatusCode == http.StatusNotFound:
		return "", errNotFound
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the server answers %s", status(resp))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", broken(ctx, err)
	}
	return string(b), nil
}

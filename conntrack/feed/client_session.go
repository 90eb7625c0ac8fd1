package feed

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// A clientSession reports over one connection, from the server's welcome until the
// connection breaks.
type clientSession struct {
	raw      net.Conn
	conn     *tls.Conn // over raw
	reporter *reporter
	wake     <-chan struct{} // there is more to report
	broken   chan error      // why listening ended
}

// use reports over a connection until it breaks or ctx ends. It calls joined when it begins.
func (l *linker) use(ctx context.Context, c channel, joined func()) error {
	s := &clientSession{raw: c.raw, conn: c.conn, wake: l.table.wake, broken: make(chan error, 1)}
	defer s.raw.Close()
	s.raw.SetDeadline(time.Time{})
	s.reporter = l.table.report(c.server, func(f frame) error { return s.write(ctx, f) })
	defer s.reporter.close()
	joined()

	var listening sync.WaitGroup
	listening.Go(func() { s.broken <- s.listen() })
	defer listening.Wait()
	defer s.raw.Close()
	defer func() {
		if ctx.Err() != nil {
			s.conn.Close() // unlike that of raw, this says farewell
		}
	}()
	defer context.AfterFunc(ctx, func() { s.raw.SetDeadline(time.Now().Add(lastWords)) })()
	return s.run(ctx, l.read)
}

// run sends what is due until the connection breaks. When ctx ends it waits a little for the
// source to end too, and reports what came from it.
func (s *clientSession) run(ctx context.Context, sourceEnded <-chan struct{}) error {
	ping := time.NewTicker(heartbeat)
	defer ping.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	err := s.reporter.flush(time.Now())
	for err == nil {
		select {
		case <-ctx.Done():
			select {
			case <-sourceEnded:
			case <-time.After(lastWords / 2):
			}
			return s.finish(ctx)
		case err = <-s.broken:
			return err
		case <-ping.C:
			err = s.write(ctx, pingFrame{})
		case <-s.wake:
		case <-flush.C:
			err = s.reporter.flush(time.Now())
		}
		now := time.Now()
		flush.Reset(s.reporter.due(now).Sub(now))
	}
	return err
}

// finish reports what changed last, and waits a little for the server to record it.
func (s *clientSession) finish(ctx context.Context) error {
	if err := s.reporter.finish(); err != nil {
		return err
	}
	for end := time.Now().Add(lastWords); !s.reporter.acknowledged() && time.Now().Before(end); {
		select {
		case err := <-s.broken:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ctx.Err()
}

func (s *clientSession) write(ctx context.Context, f frame) error {
	if ctx.Err() == nil { // else the deadline is that of the last words
		s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	}
	return writeFrame(s.conn, f)
}

// listen reads heartbeats, acknowledgements and answers until the server falls silent or
// says why it closes.
func (s *clientSession) listen() error {
	frames := frameReader{r: s.conn}
	for {
		s.conn.SetReadDeadline(time.Now().Add(silence))
		t, body, err := frames.next(maxFrame)
		if err == nil && t == typeBye {
			return farewell(body)
		}
		if err == nil {
			err = s.reporter.receive(t, body)
		}
		if err != nil {
			return err
		}
	}
}

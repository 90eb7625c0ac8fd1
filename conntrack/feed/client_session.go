package feed

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// A clientSession reports over one connection, from the server's welcome until the
// connection breaks.
type clientSession struct {
	raw      net.Conn
	conn     *tls.Conn // over raw
	reporter *frame.Reporter
	wake     <-chan struct{} // there is more to report
	broken   chan error      // why listening ended
}

// use reports over a connection until it breaks or ctx ends. It calls joined when it begins.
func (l *connector) use(ctx context.Context, c joinedConn, joined func()) error {
	s := &clientSession{raw: c.raw, conn: c.conn, wake: l.table.Wake(), broken: make(chan error, 1)}
	defer s.raw.Close()
	s.raw.SetDeadline(time.Time{})
	s.reporter = l.table.Report(c.server, func(f frame.Frame) error { return s.write(ctx, f) })
	defer s.reporter.Close()
	joined()

	var listening sync.WaitGroup
	listening.Go(func() { s.broken <- s.listen() })
	defer listening.Wait()
	defer s.raw.Close()
	defer func() {
		if ctx.Err() != nil {
			s.conn.Close() // unlike closing raw, this informs the server
		}
	}()
	defer context.AfterFunc(ctx, func() { s.raw.SetDeadline(time.Now().Add(finishTime)) })()
	return s.run(ctx, l.sourceEnded)
}

// run sends what is due until the connection breaks. When ctx ends it waits a little for the
// source to end too, and reports what came from it.
func (s *clientSession) run(ctx context.Context, sourceEnded <-chan struct{}) error {
	ping := time.NewTicker(heartbeat)
	defer ping.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	err := s.reporter.Flush(time.Now())
	for err == nil {
		select {
		case <-ctx.Done():
			select {
			case <-sourceEnded:
			case <-time.After(finishTime / 2):
			}
			return s.finish(ctx)
		case err = <-s.broken:
			return err
		case <-ping.C:
			err = s.write(ctx, frame.Ping{})
		case <-s.wake:
		case <-flush.C:
			err = s.reporter.Flush(time.Now())
		}
		now := time.Now()
		flush.Reset(s.reporter.Due(now).Sub(now))
	}
	return err
}

// finish reports what changed last, and waits a little for the server to record it.
func (s *clientSession) finish(ctx context.Context) error {
	if err := s.reporter.Finish(); err != nil {
		return err
	}
	for end := time.Now().Add(finishTime); !s.reporter.Acknowledged() && time.Now().Before(end); {
		select {
		case err := <-s.broken:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ctx.Err()
}

func (s *clientSession) write(ctx context.Context, f frame.Frame) error {
	if ctx.Err() == nil { // else there is a deadline for the last frames
		s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	}
	return frame.Write(s.conn, f)
}

// listen reads heartbeats, acknowledgements and answers until the server falls silent or
// says why it closes.
func (s *clientSession) listen() error {
	frames := frame.NewReader(s.conn)
	for {
		s.conn.SetReadDeadline(time.Now().Add(silence))
		t, body, err := frames.Next(frame.MaxSize)
		if err == nil && t == frame.TypeBye {
			return byeError(body)
		}
		if err == nil {
			err = s.reporter.Receive(t, body)
		}
		if err != nil {
			return err
		}
	}
}

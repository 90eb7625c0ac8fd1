package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
)

// ErrToken says that client and server do not belong together: the token is
// not the server's. Errors of a token that a password made are ErrToken too,
// but speak of the password.
var ErrToken = errors.New("feed: wrong token: it is not the one that this map server prints; copy it again")

// ErrRevoked says that the server has revoked the key of this machine.
var ErrRevoked = errors.New("feed: the map server has revoked the key of this machine")

// errShared says that another agent with the same key has joined.
var errShared = errors.New("feed: another agent with the same key has joined: if this machine is a copy of another one, remove the file of the key on one of them")

var errNoServer = errors.New("feed: not a connmap server")

var errApproveThere = errors.New("feed: the map server takes an agent only after somebody has approved it there by mapserver agents approve, and none without a key")

var errClosed = errors.New("feed: the map server closed the link")

// permanent reports whether a retry is of no use before somebody changes something.
func permanent(err error) bool { return errors.Is(err, ErrToken) || errors.Is(err, ErrRevoked) }

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// explain returns the same words each time that the same thing goes wrong on a network: the
// errors of package net hold a local port that changes.
func explain(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrToken), errors.Is(err, ErrRevoked):
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("feed: there is no host %q: %w", dns.Name, err)
	case errors.As(err, &dns):
		return fmt.Errorf("feed: the address of %q cannot be found now: %s", dns.Name, dns.Err)
	case refused(err):
		return fmt.Errorf("feed: nothing listens there: %w", syscall.ECONNREFUSED)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errors.New("feed: it does not answer")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errClosed
	case errors.As(err, &record):
		return errNoServer
	case errors.As(err, &op):
		return fmt.Errorf("feed: %w", op.Err)
	}
	return err
}

// byeError returns why a server closes the connection.
func byeError(b []byte) error {
	var f byeFrame
	if err := frame.Decode(b, &f); err != nil {
		return err
	}
	switch f.Code {
	case byeToken:
		return ErrToken
	case byeAgents:
		return errors.New("feed: the map server has as many agents as it takes")
	case byeGuesses:
		return errors.New("feed: too many wrong passwords or tokens came from this address: the map server takes none for a minute")
	case byeApproval:
		return errApproveThere
	case byeBusy:
		return errors.New("feed: the map server is tried with so many wrong passwords that it could not look at this one: it is tried again")
	case byeEnrolments:
		return errors.New("feed: too many new agents have joined the map server within a minute, from this address or in all")
	case byeRevoked:
		return ErrRevoked
	case byeReplaced:
		return errShared
	case byeTotal:
		return errors.New("feed: the map server has as many connections as it takes, and this machine the most")
	case byeDamaged:
		return errors.New("feed: the map server could not read what was sent; is it of the same version?")
	}
	return errClosed
}

//go:build linux

package traffic

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// answerSendfile answers by sendfile(2) from a file.
func answerSendfile(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	if got, err = read(c, rx); err != nil {
		return 0, got, err
	}
	f, err := unlinked(tx)
	if err != nil {
		return 0, got, err
	}
	defer f.Close()
	in := int(f.Fd())
	for sent < tx {
		err := onFD(c.SyscallConn, true, func(fd int) error {
			n, err := unix.Sendfile(fd, in, nil, int(tx-sent))
			if err == unix.EINTR {
				return nil
			}
			sent += uint64(max(n, 0))
			return err
		})
		if err != nil {
			return sent, got, err
		}
	}
	return sent, got, nil
}

// answerSplice answers by splice(2) from a file over a pipe.
func answerSplice(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	if got, err = read(c, rx); err != nil {
		return 0, got, err
	}
	f, err := unlinked(tx)
	if err != nil {
		return 0, got, err
	}
	defer f.Close()
	p, err := newPipe()
	if err != nil {
		return 0, got, err
	}
	defer p.close()
	for sent < tx {
		n, err := splice(int(f.Fd()), p.w, pipeSize)
		if err != nil {
			return sent, got, err
		}
		if err := p.drain(c, n, &sent); err != nil {
			return sent, got, err
		}
	}
	return sent, got, nil
}

// requestSplice receives by splice(2) to a file over a pipe.
func requestSplice(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	if sent, err = write(c, tx); err != nil {
		return sent, 0, err
	}
	f, err := unlinked(0)
	if err != nil {
		return sent, 0, err
	}
	defer f.Close()
	p, err := newPipe()
	if err != nil {
		return sent, 0, err
	}
	defer p.close()
	for got < rx {
		n, err := p.fill(c, rx-got, &got)
		if err != nil {
			return sent, got, err
		}
		for n > 0 {
			m, err := splice(p.r, int(f.Fd()), n)
			if err != nil {
				return sent, got, err
			}
			n -= m
		}
	}
	return sent, got, nil
}

// echoSplice sends back what it receives by splice(2) over a pipe. It never
// sees a byte of it.
func echoSplice(c *net.TCPConn, tx, rx uint64) (sent, got uint64, err error) {
	p, err := newPipe()
	if err != nil {
		return 0, 0, err
	}
	defer p.close()
	for got < rx {
		n, err := p.fill(c, rx-got, &got)
		if err != nil {
			return sent, got, err
		}
		if err := p.drain(c, n, &sent); err != nil {
			return sent, got, err
		}
	}
	return sent, got, nil
}

const pipeSize = 64 << 10

type pipe struct{ r, w int }

func newPipe() (pipe, error) {
	var p [2]int
	err := unix.Pipe2(p[:], unix.O_CLOEXEC)
	return pipe{p[0], p[1]}, err
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// fill moves up to limit bytes from c into the empty pipe.
func (p pipe) fill(c *net.TCPConn, limit uint64, got *uint64) (n int, err error) {
	err = onFD(c.SyscallConn, false, func(fd int) (err error) {
		n, err = splice(fd, p.w, int(min(limit, pipeSize)))
		return err
	})
	if err == nil && n == 0 {
		err = errors.New("the peer closed early")
	}
	*got += uint64(n)
	return n, err
}

// drain moves the n bytes that are in the pipe to c.
func (p pipe) drain(c *net.TCPConn, n int, sent *uint64) error {
	for n > 0 {
		m := 0
		err := onFD(c.SyscallConn, true, func(fd int) (err error) {
			m, err = splice(p.r, fd, n)
			return err
		})
		if err != nil {
			return err
		}
		n -= m
		*sent += uint64(m)
	}
	return nil
}

func splice(from, to, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, 0)
		if err != unix.EINTR {
			return max(int(m), 0), err
		}
	}
}

// onFD calls f with the descriptor of a socket, which does not block, until f
// need not wait.
func onFD(conn func() (syscall.RawConn, error), write bool, f func(fd int) error) error {
	raw, err := conn()
	if err != nil {
		return err
	}
	wait := raw.Read
	if write {
		wait = raw.Write
	}
	err2 := wait(func(fd uintptr) bool {
		err = f(int(fd))
		return err != unix.EAGAIN
	})
	return errors.Join(err, err2)
}

// unlinked returns a file of n zero bytes that nobody else sees.
func unlinked(n uint64) (*os.File, error) {
	f, err := os.CreateTemp("", "traffic")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name())
	b := make([]byte, 1<<20)
	for n > 0 {
		m, err := f.Write(b[:min(n, uint64(len(b)))])
		if err != nil {
			f.Close()
			return nil, err
		}
		n -= uint64(m)
	}
	_, err = f.Seek(0, 0)
	return f, err
}

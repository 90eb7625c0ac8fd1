package conntrack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ssLimit         = 10 * time.Second // for one run
	threadNamespace = "/proc/thread-self/ns/net"
)

// An ss is the lister of the backend SS: the output of ss(8).
type ss struct {
	path      string
	namespace *os.File
	out       bytes.Buffer
	sock      sock // one for all, as in diag
}

func openSS(o Options) (backend, error) {
	const install = "install iproute2, version 5.2 or later"
	path, err := exec.LookPath("ss")
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %s", errors.ErrUnsupported, err, install)
	}
	namespace, err := os.Open(threadNamespace)
	if err != nil {
		return nil, err
	}
	s := &ss{path: path, namespace: namespace}
	if err := s.list(context.Background(), func(Proto, *sock) {}); err != nil {
		s.close()
		return nil, fmt.Errorf("%w: %w: %s", errors.ErrUnsupported, err, install)
	}
	return newLinuxPoller(SS, o, s, "ss(8) shows bytes and round-trip times of TCP only, and no other protocols than TCP and UDP"), nil
}

func (s *ss) close() error { return s.namespace.Close() }

func (s *ss) list(ctx context.Context, add func(Proto, *sock)) error {
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("ss: %w", err)
	}
	for line := range bytes.Lines(s.out.Bytes()) {
		proto, ok := s.sock.parseSS(line)
		if !ok {
			return fmt.Errorf("ss: malformed line %q", line)
		}
		add(proto, &s.sock)
	}
	return nil
}

// run leaves the output of ss in s.out.
func (s *ss) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ssLimit)
	defer cancel()
	// The timer tells the remains of closed connections, see timerTimeWait.
	cmd := exec.CommandContext(ctx, s.path, "--no-header", "--oneline", "--all", "--numeric", "--extended", "--info", "--options", "--tcp", "--udp",
		"exclude", "time-wait")
	// Other variables would have it read other files than those in /proc.
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = time.Second
	var complaint bytes.Buffer
	s.out.Reset()
	cmd.Stdout, cmd.Stderr = &s.out, &complaint
	if err := s.inNamespace(cmd.Start); err != nil {
		return err
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // Wait says only that it was killed
	}
	if err != nil && complaint.Len() > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return err
}

// inNamespace calls f on a thread in the network namespace of New.
func (s *ss) inNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		// Only a thread that has come back may be used for other goroutines.
		runtime.LockOSThread()
		here, err := os.Open(threadNamespace)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer here.Close()
		if err := enter(here, s.namespace); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		err = f()
		if enter(s.namespace, here) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter moves the calling thread from one network namespace to another.
func enter(from, to *os.File) error {
	f, err1 := from.Stat()
	t, err2 := to.Stat()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	// It takes privileges to enter even the namespace that one is in.
	if os.SameFile(f, t) {
		return nil
	}
	return unix.Setns(int(to.Fd()), unix.CLONE_NEWNET)
}

// parseSS reads a line of ss, such as
//
//	tcp ESTAB 0 0 192.0.2.1:443 198.51.100.2:50000 uid:33 ino:378536 sk:391aa cgroup:/ <-> cubic rtt:0.025/0.012 bytes_sent:30 ...
//
// with protocol, state, queues, local and peer address. The order of the rest
// does not matter, and what is not there is zero.
func (s *sock) parseSS(line []byte) (proto Proto, ok bool) {
	var fields [6][]byte
	n := 0
	var sent, again, received uint64
	*s = sock{}
	for f := range bytes.FieldsSeq(line) {
		if n < len(fields) {
			fields[n] = f
			n++
			continue
		}
		key, value, _ := bytes.Cut(f, []byte{':'})
		v, _ := number(value)
		switch string(key) {
		case "uid":
			s.uid = uint32(v)
		case "ino":
			s.inode = uint32(v)
		case "sk":
			s.cookie, _ = strconv.ParseUint(string(value), 16, 64)
		case "timer":
			if bytes.HasPrefix(value, []byte("(timewait,")) {
				s.timer = timerTimeWait
			}
		case "rtt":
			mean, _, _ := bytes.Cut(value, []byte{'/'})
			if ms, err := strconv.ParseFloat(string(mean), 64); err == nil && 0 <= ms && ms < 1e9 {
				s.rtt = time.Duration(math.Round(ms*1e3)) * time.Microsecond
			}
		case "bytes_sent":
			sent = v
		case "bytes_retrans":
			again = v
		case "bytes_received":
			received = v
		}
	}
	if n < len(fields) {
		return 0, false
	}
	switch string(fields[0]) {
	case "tcp":
		proto = TCP
	case "udp":
		proto = UDP
	default:
		return 0, false
	}
	s.state = ssStates[string(fields[1])]
	var ok1, ok2 bool
	s.local, ok1 = ssAddr(fields[4])
	s.peer, ok2 = ssAddr(fields[5])
	if z := s.local.Addr().Zone(); z != "" && s.peer.Addr().IsLinkLocalUnicast() && s.peer.Addr().Is6() {
		s.peer = netip.AddrPortFrom(s.peer.Addr().WithZone(z), s.peer.Port()) // which ss leaves out
	}
	s.tx = sent - min(sent, again)
	s.received(received)
	return proto, ok1 && ok2
}

// ssStates are the states in the words of ss. Those not in it are of no use.
var ssStates = map[string]uint8{
	"ESTAB": stateEstablished, "FIN-WAIT-1": stateFinWait1, "FIN-WAIT-2": stateFinWait2, "UNCONN": stateClose,
	"CLOSE-WAIT": stateCloseWait, "LAST-ACK": stateLastAck, "LISTEN": stateListen, "CLOSING": stateClosing,
}

// ssAddr reads an address and port such as 192.0.2.1:80, 127.0.0.53%lo:53,
// [fe80::1]%eth0:80, [::ffff:192.0.2.1]:80 or *:*.
func ssAddr(b []byte) (a netip.AddrPort, ok bool) {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return a, false
	}
	host, device, _ := bytes.Cut(b[:i], []byte{'%'})
	ip, err := netip.IPv6Unspecified(), error(nil)
	if string(host) != "*" {
		ip, err = netip.ParseAddr(string(bytes.Trim(host, "[]")))
	}
	port, ok := uint64(0), true
	if string(b[i+1:]) != "*" {
		port, ok = number(b[i+1:])
	}
	if ip = ip.Unmap(); len(device) > 0 && ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
		ip = zoned(ip, deviceIndex(string(device)))
	}
	return netip.AddrPortFrom(ip, uint16(port)), err == nil && ok && port <= 1<<16-1
}

// deviceIndex returns the index of a network device; zero: there is none of that name.
func deviceIndex(name string) uint32 {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r) != nil {
		return 0
	}
	return r.Uint32()
}

package conntrack

import "os"

// newLinuxPoller returns a poller that owns l and finds processes in /proc.
func newLinuxPoller(name Backend, o Options, l lister, limited ...string) *poller {
	h := new(procOwners)
	if err := h.open("/proc"); err != nil {
		o.Logger.Warn("conntrack: programs are unknown: /proc cannot be read", "error", err)
		limited = append(limited, "programs are unknown: /proc cannot be read")
	} else if status, err := os.ReadFile("/proc/self/status"); err == nil && !seesAll(status) {
		h.denied = true
	}
	return newPoller(name, o, l, h, "UDP sockets without a fixed peer, the bytes of UDP, other protocols and other network namespaces", limited...)
}

// setReceived sets rx from the kernel's count, which includes the peer's FIN as a byte.
func (s *sock) setReceived(n uint64) {
	switch s.state {
	case stateCloseWait, stateLastAck, stateClosing:
		n -= min(n, 1)
	}
	s.rx = n
}

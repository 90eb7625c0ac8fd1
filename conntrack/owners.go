package conntrack

// listedOwners are the owners of sockets of which the table of the system names the process:
// only what that process is has to be asked.
type listedOwners struct {
	// describe asks the system what a process is, and whether it refused a part of that.
	describe func(pid int32) (p Process, denied bool)
	// started returns when a process started, in whatever unit, and zero if the system
	// does not tell or the process has ended.
	started func(pid int32) int64
	// refused says what lacks where the system refused something, for people.
	refused string

	denied bool
	known  map[int32]*listedProcess
}

// A listedProcess is what is known of a process while it has connections.
type listedProcess struct {
	Process
	started int64
	gen     uint64 // snapshot that saw a connection of it last
}

// find forgets the processes without connections. Another process that has got the
// number of one that ended is asked for anew.
func (t *listedOwners) find(p *poller) {
	if t.known == nil {
		t.known = make(map[int32]*listedProcess)
	}
	for _, i := range p.live {
		pid := p.entry(i).pid
		k := t.known[pid]
		if pid == 0 || k != nil && k.gen == p.gen {
			continue
		}
		started := t.started(pid)
		if k == nil || started != 0 && started != k.started {
			k = &listedProcess{started: started}
			var denied bool
			k.Process, denied = t.describe(pid)
			t.denied = t.denied || denied
			t.known[pid] = k
		}
		k.gen = p.gen
	}
	for pid, k := range t.known {
		if k.gen != p.gen {
			delete(t.known, pid)
		}
	}
}

func (t *listedOwners) of(pid int32) Process {
	if k := t.known[pid]; k != nil {
		return k.Process
	}
	return Process{}
}

func (t *listedOwners) limited() string {
	if t.denied {
		return t.refused
	}
	return ""
}

func (t *listedOwners) close() {}

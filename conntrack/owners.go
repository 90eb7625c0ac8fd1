package conntrack

// listedOwners are the owners where the system's table of sockets has the process of each. It
// only has to describe these processes.
type listedOwners struct {
	// describe returns what a process is, and whether the system denied a part of that.
	describe func(pid int32) (p Process, denied bool)
	// started returns when a process started, in any unit; zero: it is unknown, or the
	// process has ended.
	started func(pid int32) int64
	// deniedNote says, for people, what is unknown if the system denied something.
	deniedNote string

	denied bool
	byPID  map[int32]*listedProcess
}

// A listedProcess is a process that has connections.
type listedProcess struct {
	Process
	started int64
	gen     uint64 // last snapshot with a connection of it
}

// find describes the processes of p.live, and forgets those without connections. A PID that
// now belongs to another process is described anew.
func (t *listedOwners) find(p *poller) {
	if t.byPID == nil {
		t.byPID = make(map[int32]*listedProcess)
	}
	for _, i := range p.live {
		pid := p.entry(i).pid
		k := t.byPID[pid]
		if pid == 0 || k != nil && k.gen == p.gen {
			continue
		}
		started := t.started(pid)
		if k == nil || started != 0 && started != k.started {
			k = &listedProcess{started: started}
			var denied bool
			k.Process, denied = t.describe(pid)
			t.denied = t.denied || denied
			t.byPID[pid] = k
		}
		k.gen = p.gen
	}
	for pid, k := range t.byPID {
		if k.gen != p.gen {
			delete(t.byPID, pid)
		}
	}
}

func (t *listedOwners) of(pid int32) Process {
	if k := t.byPID[pid]; k != nil {
		return k.Process
	}
	return Process{}
}

func (t *listedOwners) limited() string {
	if t.denied {
		return t.deniedNote
	}
	return ""
}

func (t *listedOwners) close() {}

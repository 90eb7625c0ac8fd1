package monitor

import (
	"time"

	"github.com/connmapgo/connmap/history"
)

// maxBacklog bounds the records and the reports of a backlog, each. A Recorder has room for
// several times as many.
const maxBacklog = 1 << 14

// A backlog holds what is to be recorded when the history is open. Live connections are not in
// it, they wait in the table. When it is full, agents keep their events, which are not
// acknowledged.
type backlog struct {
	records []history.Record
	reports []backlogReport
	lost    map[string]uint64 // by agent: number of close events that did not fit
}

type backlogReport struct {
	report []history.Record // one, or none
	ack    func()
}

// recording reports whether there is a history, or one is being opened.
func (m *Monitor) recording() bool { return m.Opening.Load() || m.Writer != nil }

// add queues a record for the history.
func (m *Monitor) add(r history.Record) {
	switch {
	case m.inDelta != nil:
		m.inDelta.pending = append(m.inDelta.pending, r)
	case !m.Opening.Load():
		m.Writer.Add(r)
	case len(m.backlog.records) < maxBacklog:
		m.backlog.records = append(m.backlog.records, r)
	default:
		if m.backlog.lost == nil {
			m.backlog.lost = make(map[string]uint64)
		}
		switch r := r.(type) {
		case history.Entry:
			m.backlog.lost[r.Agent] = sumLost(m.backlog.lost[r.Agent], 1)
		case history.Loss:
			m.backlog.lost[r.Agent] = sumLost(m.backlog.lost[r.Agent], r.Count)
		}
	}
}

// Opened ends Opening. It records the backlog first, and what did not fit in it as lost. If db
// and w are nil, nothing is recorded.
func (m *Monitor) Opened(db history.Store, w history.Recorder) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.backlog
	m.History, m.Writer, m.backlog = db, w, backlog{}
	m.Opening.Store(false)
	close(m.opened)
	acknowledge := func() {
		for _, r := range waiting.reports {
			r.ack()
		}
	}
	if w == nil {
		m.unwritten, m.closedUnwritten = nil, 0
		acknowledge()
		return
	}
	// Together: agents would repeat records that are stored without their report.
	all := waiting.records
	for agent, n := range waiting.lost {
		all = append(all, history.Loss{Agent: agent, Count: n, Seen: time.Now()})
	}
	for _, r := range waiting.reports {
		all = append(all, r.report...)
	}
	w.AddAll(all, acknowledge)
}

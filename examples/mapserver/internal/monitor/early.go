package monitor

import (
	"time"

	"github.com/connmapgo/connmap/history"
)

// maxEarly bounds both the records and the reports that wait for a history that is being
// opened. A Recorder has room for several times as many.
const maxEarly = 1 << 14

// early is what is to be recorded once the history is open. What lives waits in the table
// instead, and what agents have no room for here they keep, since it is not acknowledged.
type early struct {
	records []history.Record
	reports []earlyReport
	lost    map[string]uint64 // by agent: ends that there was no room for
}

type earlyReport struct {
	report []history.Record // one, or none
	ack    func()
}

// records reports whether there is a history, or is going to be.
func (m *Monitor) records() bool { return m.Opening.Load() || m.Writer != nil }

// add hands a record to the history.
func (m *Monitor) add(r history.Record) {
	switch {
	case m.inDelta != nil:
		m.inDelta.pending = append(m.inDelta.pending, r)
	case !m.Opening.Load():
		m.Writer.Add(r)
	case len(m.early.records) < maxEarly:
		m.early.records = append(m.early.records, r)
	default:
		if m.early.lost == nil {
			m.early.lost = make(map[string]uint64)
		}
		switch r := r.(type) {
		case history.Entry:
			m.early.lost[r.Agent] = addLost(m.early.lost[r.Agent], 1)
		case history.Loss:
			m.early.lost[r.Agent] = addLost(m.early.lost[r.Agent], r.Count)
		}
	}
}

// Opened ends Opening: from now on things are recorded, or never if there is no history,
// and db and w are nil. What came meanwhile is recorded first; what there was no room for
// is recorded as lost.
func (m *Monitor) Opened(db history.Store, w history.Recorder) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.early
	m.History, m.Writer, m.early = db, w, early{}
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
	// Together: what is stored without its report would be reported again.
	all := waiting.records
	for agent, n := range waiting.lost {
		all = append(all, history.Loss{Agent: agent, Count: n, Seen: time.Now()})
	}
	for _, r := range waiting.reports {
		all = append(all, r.report...)
	}
	w.AddAll(all, acknowledge)
}

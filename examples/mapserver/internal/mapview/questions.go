package mapview

import (
	"maps"
	"slices"
	"time"
)

// needs is what the map and the open panels want of the caller. They name it anew in every
// frame: what is not named any more is cancelled.
type needs struct {
	marks, addrs, kept bool // of the history, in the State
	questions          []*question
}

// An asker is a body that needs something.
type asker interface{ needs(v *View, n *needs) }

// A question is asked of the caller, and answered later. The zero question asks nothing.
type question struct {
	effect  numbered // what is asked; nil: nothing
	owner   answerer
	due     time.Time // when it is asked; zero: at once
	number  int       // its answers have the same; zero: it has not been asked yet
	waiting bool      // the last answer has not come yet
}

// A numbered effect is a question.
type numbered interface {
	Effect
	numbered(n int) Effect // the effect with its number
}

// An answerer takes in answers to its question.
type answerer interface{ answered(v *View, a Answer) }

// maxDelay is how long a question may be put off.
const maxDelay = searchDelay

// needs names the question, for the body that it is embedded in.
func (q *question) needs(_ *View, n *needs) { n.questions = append(n.questions, q) }

// pose replaces the question by another.
func (q *question) pose(owner answerer, e numbered, due time.Time) {
	*q = question{effect: e, owner: owner, due: due, waiting: true}
}

// delayed reports whether a question is put off.
func (q *question) delayed(v *View) bool { return q.number == 0 && v.before(q.due, maxDelay) }

// requests is what the caller has been asked for.
type requests struct {
	last               int // number of the last question
	marks, addrs, kept bool
	open               map[int]*question // without their last answer, by number
	needs              needs
}

// request asks the caller for what is needed and has not been asked for yet, and cancels what
// is not needed any more.
func (v *View) request() {
	r := &v.requests
	n := &r.needs
	*n = needs{marks: v.History, questions: n.questions[:0]}
	v.search.needs(v, n)
	v.replay.needs(v, n)
	if v.console != nil {
		v.console.needs(v, n) // its question runs on while the panel is closed
	}
	for _, p := range v.panels.List {
		if b, ok := p.Body.(asker); ok {
			b.needs(v, n)
		}
	}
	if r.marks != n.marks {
		v.ask(ShowHistory{On: n.marks})
	}
	if r.addrs != n.addrs {
		v.ask(ShowAddrs{On: n.addrs})
	}
	if r.kept != n.kept {
		v.ask(ShowStats{On: n.kept})
	}
	r.marks, r.addrs, r.kept = n.marks, n.addrs, n.kept
	r.cancel(v)
	for _, q := range n.questions {
		switch {
		case q.effect == nil || q.number != 0:
		case q.delayed(v):
			v.wake(q.due)
		default:
			r.send(v, q)
		}
	}
}

// cancel cancels the questions whose answer is not wanted any more.
func (r *requests) cancel(v *View) {
	for _, number := range slices.Sorted(maps.Keys(r.open)) {
		if q := r.open[number]; q.number != number || !slices.Contains(r.needs.questions, q) {
			v.ask(CancelQuery{Ask: number})
			delete(r.open, number)
		}
	}
}

func (r *requests) send(v *View, q *question) {
	r.last++
	q.number = r.last
	if r.open == nil {
		r.open = make(map[int]*question)
	}
	r.open[q.number] = q
	v.ask(q.effect.numbered(q.number))
}

// answer hands an answer to the owner of its question, if that is still needed. last says
// that no more will come.
func (v *View) answer(number int, a Answer, last bool) {
	q := v.requests.open[number]
	if q == nil || q.number != number {
		return
	}
	if last {
		delete(v.requests.open, number)
		q.waiting = false
	}
	q.owner.answered(v, a)
}

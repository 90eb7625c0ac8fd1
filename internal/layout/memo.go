package layout

import "hash/maphash"

// A memo has numbers of texts, by 96 bits of hashes of them: a map of texts takes three times as
// long, since the memory of each text has to be read. That two of a million texts have the same
// is as likely as one in 10^17. The zero memo is empty.
type memo struct {
	slots []memoSlot // a power of two, at least twice as many as are in use
	n     int
}

type memoSlot struct {
	one uint64
	two uint32
	id  uint32 // the number and 1; zero: free
}

var memoSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashes(text []byte) (one uint64, two uint32) {
	return maphash.Bytes(memoSeeds[0], text), uint32(maphash.Bytes(memoSeeds[1], text))
}

// find returns the slot of a text, or the free one where it belongs.
func (m *memo) find(one uint64, two uint32) *memoSlot {
	mask := uint64(len(m.slots) - 1)
	for i := one & mask; ; i = (i + 1) & mask {
		if s := &m.slots[i]; s.id == 0 || s.one == one && s.two == two {
			return s
		}
	}
}

// get returns the number of a text, if it has one.
func (m *memo) get(text []byte) (number uint32, ok bool) {
	if m.n == 0 {
		return 0, false
	}
	s := m.find(hashes(text))
	return s.id - 1, s.id != 0
}

// set gives a text a number.
func (m *memo) set(text []byte, number uint32) {
	if 2*(m.n+1) > len(m.slots) {
		old := m.slots
		m.slots = make([]memoSlot, max(2*len(old), 64))
		for _, s := range old {
			if s.id != 0 {
				*m.find(s.one, s.two) = s
			}
		}
	}
	one, two := hashes(text)
	s := m.find(one, two)
	if s.id == 0 {
		m.n++
	}
	*s = memoSlot{one, two, number + 1}
}

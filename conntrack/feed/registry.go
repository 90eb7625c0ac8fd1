package feed

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/internal/lock"
	"github.com/connmapgo/connmap/internal/temp"
)

const (
	maxRegistered = 100_000
	maxUnapproved = 1000 // of them that wait for approval
	minKeyDigits  = 8    // by which an agent may be named
)

// A Registered is an agent that has joined with a key of its own.
type Registered struct {
	Key     Key       `json:"key"`
	Name    string    `json:"name"` // on the map, whatever it calls itself later; unique among those not revoked
	Addr    string    `json:"addr"` // where it joined from last, without port
	Joined  time.Time `json:"joined"`
	Seen    time.Time `json:"seen"`             // by a server, to within ten minutes
	Revoked time.Time `json:"revoked,omitzero"` // zero: it may report
	Waiting bool      `json:"waiting,omitzero"` // it may not yet, where a [Server] asks for approval
}

// A Registry is the agents that have joined with a key of their own, in a file. It is
// safe for concurrent use, and several processes may share the file: a [Server] learns
// by itself what another process changes.
type Registry struct {
	name string

	files sync.Mutex // held while the file is read or written

	mu      sync.Mutex
	agents  agents
	names   names                 // of agents that may report
	sources map[netip.Prefix]bool // from where these joined last
	file    fs.FileInfo           // when it was read last; nil: there was none
	pending []enrolment
	saving  bool
}

type agents map[Key]*Registered

type enrolment struct {
	Registered
	serverName string // of the server's machine
	done       chan error
}

// OpenRegistry reads the agents in a file. If there is no such file it has none yet; the
// folder must exist.
func OpenRegistry(name string) (*Registry, error) {
	r := &Registry{name: name}
	_, err := r.refresh()
	return r, err
}

// refresh reads the file if it has changed, and reports whether it has.
func (r *Registry) refresh() (bool, error) {
	r.files.Lock()
	defer r.files.Unlock()
	return r.read()
}

func (r *Registry) read() (bool, error) {
	info, err := os.Stat(r.name)
	r.mu.Lock()
	same := r.agents != nil && (errors.Is(err, fs.ErrNotExist) && r.file == nil ||
		err == nil && r.file != nil && os.SameFile(info, r.file) && info.ModTime().Equal(r.file.ModTime()) && info.Size() == r.file.Size())
	r.mu.Unlock()
	if same {
		return false, nil
	}
	list := agents{}
	if errors.Is(err, fs.ErrNotExist) {
		info = nil
	} else {
		var b []byte
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file", r.name) // a pipe would never end
		}
		if err == nil {
			b, err = os.ReadFile(r.name)
		}
		if err != nil {
			return false, fmt.Errorf("feed: %w", err)
		}
		if list, err = parseRegistry(b); err != nil {
			return false, fmt.Errorf("feed: %s: damaged: %w; restore it from a copy, or move it away: then agents join anew by the token", r.name, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, a := range list {
		// When agents were seen is only written from time to time.
		if old := r.agents[key]; old != nil && old.Seen.After(a.Seen) {
			a.Seen, a.Addr = old.Seen, old.Addr
		}
	}
	r.set(list, info)
	return true, nil
}

// set replaces what is known by what the file holds.
func (r *Registry) set(list agents, info fs.FileInfo) {
	r.agents, r.file = list, info
	r.names, r.sources = make(names, 2*len(list)), make(map[netip.Prefix]bool, len(list))
	for _, a := range list {
		if a.Revoked.IsZero() && !a.Waiting {
			r.names.add(a.Name)
			r.addSource(a)
		}
	}
}

func (r *Registry) addSource(a *Registered) {
	if ip, err := netip.ParseAddr(a.Addr); err == nil {
		r.sources[originOfAddr(ip).source] = true
	}
}

// joinedFrom reports whether an agent that may report joined from a source last.
func (r *Registry) joinedFrom(source netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources[source]
}

// hasName reports whether an agent has a name, or one that looks the same.
func (r *Registry) hasName(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names.has(name)
}

func parseRegistry(b []byte) (agents, error) {
	var list []Registered
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	if len(list) > maxRegistered {
		return nil, fmt.Errorf("it has more than %d agents", maxRegistered)
	}
	all, taken := make(agents, len(list)), make(map[string]bool, len(list))
	for i := range list {
		a := &list[i]
		a.Name, a.Addr = clean(a.Name), clean(a.Addr)
		if a.Key == (Key{}) || all[a.Key] != nil {
			return nil, fmt.Errorf("agent %d: no key, or one of another agent", i+1)
		}
		if a.Revoked.IsZero() {
			if a.Name == "" || taken[a.Name] {
				return nil, fmt.Errorf("agent %d: no name, or one of another agent", i+1)
			}
			taken[a.Name] = true
		}
		all[a.Key] = a
	}
	return all, nil
}

// update changes the file by f, which reports whether it has changed anything.
func (r *Registry) update(f func(agents) (bool, error)) error {
	r.files.Lock()
	defer r.files.Unlock()
	locked, err := lock.Folder(filepath.Dir(r.name))
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	defer locked.Close()
	if _, err := r.read(); err != nil {
		return err
	}
	r.mu.Lock()
	list := r.agents.clone()
	r.mu.Unlock()
	changed, err := f(list)
	if err != nil || !changed {
		return err
	}
	if err := temp.Write(r.name, 0o600, formatRegistry(list)); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	info, err := os.Stat(r.name)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(list, info)
	return nil
}

func (l agents) clone() agents {
	c := make(agents, len(l))
	for key, a := range l {
		b := *a
		c[key] = &b
	}
	return c
}

// formatRegistry writes a line for each agent, for people and their tools.
func formatRegistry(l agents) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	next := "\n"
	for _, a := range l.sorted() {
		line, err := json.Marshal(a)
		if err != nil {
			panic("feed: " + err.Error()) // texts, numbers and times of this century
		}
		b.WriteString(next)
		b.Write(line)
		next = ",\n"
	}
	b.WriteString("\n]\n")
	return b.Bytes()
}

func (l agents) sorted() []Registered {
	list := make([]Registered, 0, len(l))
	for _, a := range l {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Registered) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Joined.Compare(b.Joined), bytes.Compare(a.Key[:], b.Key[:]))
	})
	return list
}

// All returns the agents, by name.
func (r *Registry) All() ([]Registered, error) {
	if _, err := r.refresh(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agents.sorted(), nil
}

// Revoke has servers refuse an agent, whatever token it has, and returns it. It is named by its
// name or the beginning of its key.
func (r *Registry) Revoke(who string) (a Registered, err error) {
	err = r.update(func(l agents) (bool, error) {
		found, err := l.find(who)
		if err != nil {
			return false, err
		}
		found.Revoked = time.Now().UTC().Truncate(time.Second)
		a = *found
		return true, nil
	})
	return a, err
}

// Approve lets an agent report that waits for approval, and returns it as it was before: it is
// no error if it did not wait. It is named by its name or the beginning of its key.
func (r *Registry) Approve(who string) (a Registered, err error) {
	err = r.update(func(l agents) (changed bool, err error) {
		found, err := l.find(who)
		if err != nil {
			return false, err
		}
		a = *found
		found.Waiting = false
		return a.Waiting, nil
	})
	return a, err
}

// approve lets an agent report that has joined a server without approval.
func (r *Registry) approve(key Key) error {
	return r.update(func(l agents) (bool, error) {
		a := l[key]
		if a == nil || !a.Waiting {
			return false, nil
		}
		a.Waiting = false
		return true, nil
	})
}

// Rename gives an agent another name on the map. The history keeps the old one. The agent is
// named by its name or the beginning of its key.
func (r *Registry) Rename(who, name string) error {
	if name == "" || cleanName(name) != name {
		return fmt.Errorf("feed: %q cannot be the name of an agent", name)
	}
	return r.update(func(l agents) (bool, error) {
		found, err := l.find(who)
		if err != nil {
			return false, err
		}
		for _, other := range l {
			if other != found && other.Revoked.IsZero() && lookAlike(other.Name, name) {
				return false, fmt.Errorf("feed: an agent is called %q already, which looks the same: rename or revoke that one first", other.Name)
			}
		}
		found.Name = name
		return true, nil
	})
}

// named returns the agent of a name that is not revoked.
func (l agents) named(name string) *Registered {
	for _, a := range l {
		if a.Name == name && a.Revoked.IsZero() {
			return a
		}
	}
	return nil
}

func (l agents) find(who string) (*Registered, error) {
	named := l.named(who)
	found := named
	for key, a := range l {
		if len(who) >= minKeyDigits && strings.HasPrefix(key.String(), strings.ToLower(who)) && a.Revoked.IsZero() {
			if found != nil && found != a {
				if found == named {
					return nil, fmt.Errorf("feed: an agent is called %q, and the key of another one begins so: say more of a key", who)
				}
				return nil, fmt.Errorf("feed: several keys begin with %q", who)
			}
			found = a
		}
	}
	if found == nil {
		for _, a := range l {
			if a.Name == who {
				return nil, fmt.Errorf("feed: %q is revoked for good: on its machine remove the key, and it joins anew with a token", who)
			}
		}
		return nil, fmt.Errorf("feed: no agent is called %q", who)
	}
	return found, nil
}

// lookup returns the agent with a key.
func (r *Registry) lookup(key Key) (Registered, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[key]
	if a == nil {
		return Registered{}, false
	}
	return *a, true
}

// noteSeen notes that an agent is there now.
func (r *Registry) noteSeen(key Key, addr netip.Addr, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.agents[key]; a != nil {
		a.Seen = now.UTC().Truncate(time.Second)
		if s := addr.String(); addr.IsValid() && s != a.Addr {
			a.Addr = s
			if !a.Waiting {
				r.addSource(a)
			}
		}
	}
}

// dropUnapproved removes one of those that wait for approval, which are sorted by age: the oldest
// of the network that has the most.
func (l agents) dropUnapproved(waiting []*Registered) []*Registered {
	network := func(a *Registered) netip.Prefix {
		ip, _ := netip.ParseAddr(a.Addr)
		return originOfAddr(ip).network
	}
	count, most := make(map[netip.Prefix]int), netip.Prefix{}
	for _, a := range waiting {
		n := network(a)
		if count[n]++; count[n] > count[most] {
			most = n
		}
	}
	i := slices.IndexFunc(waiting, func(a *Registered) bool { return network(a) == most })
	delete(l, waiting[i].Key)
	return slices.Delete(waiting, i, i+1)
}

// unapproved returns how many agents wait for approval.
func (r *Registry) unapproved() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.agents {
		if a.Waiting && a.Revoked.IsZero() {
			n++
		}
	}
	return n
}

// save writes when agents were seen to the file.
func (r *Registry) save() error {
	return r.update(func(l agents) (bool, error) { return len(l) > 0, nil })
}

// enrol adds a new agent. If the name that it asks for is taken, or looks like that of the
// server's machine, it gets a number behind it. enrol returns when the file is written; many calls
// at once share one write.
func (r *Registry) enrol(a Registered, serverName string) (Registered, error) {
	a.Joined = a.Joined.UTC().Truncate(time.Second)
	a.Seen = a.Joined
	a.Name = strings.TrimSuffix(cleanName(a.Name), noKeySuffix)
	if len(a.Name) > frame.MaxText-10 {
		a.Name = cleanName(a.Name[:frame.MaxText-10]) // leaves room for a number
	}
	e := enrolment{a, serverName, make(chan error, 1)}
	r.mu.Lock()
	r.pending = append(r.pending, e)
	lead := !r.saving
	r.saving = true
	r.mu.Unlock()
	if lead {
		r.enrolAll()
	}
	if err := <-e.done; err != nil {
		return Registered{}, err
	}
	if known, ok := r.lookup(a.Key); ok {
		return known, nil
	}
	if !a.Waiting { // else later ones have replaced it
		return Registered{}, errors.New("feed: the agent has been removed meanwhile")
	}
	return a, nil
}

func (r *Registry) enrolAll() {
	for {
		r.mu.Lock()
		some := r.pending
		r.pending = nil
		r.saving = len(some) > 0
		r.mu.Unlock()
		if len(some) == 0 {
			return
		}
		err := r.update(func(l agents) (bool, error) {
			taken, waiting := make(names, 2*len(l)), []*Registered(nil)
			numbers := make(map[string]int) // of those that ask for one name
			for _, a := range l {
				if a.Revoked.IsZero() {
					taken.add(a.Name)
				}
				if a.Waiting && a.Revoked.IsZero() {
					waiting = append(waiting, a)
				}
			}
			slices.SortFunc(waiting, func(a, b *Registered) int { return a.Joined.Compare(b.Joined) })
			for _, e := range some {
				if l[e.Key] != nil {
					continue
				}
				if e.Waiting {
					if len(waiting) >= maxUnapproved {
						waiting = l.dropUnapproved(waiting)
					}
				}
				if len(l) >= maxRegistered {
					return false, fmt.Errorf("feed: %s has as many agents as it may: revoke or remove old ones", r.name)
				}
				a := e.Registered
				for taken.has(a.Name) || lookAlike(a.Name, e.serverName) {
					numbers[e.Name]++
					a.Name = fmt.Sprintf("%s #%d", e.Name, numbers[e.Name]+1)
				}
				taken.add(a.Name)
				l[a.Key] = &a
				if a.Waiting {
					waiting = append(waiting, &a)
				}
			}
			return true, nil
		})
		for _, e := range some {
			e.done <- err
		}
	}
}

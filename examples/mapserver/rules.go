package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/connmapgo/connmap/internal/numbers"
	"github.com/connmapgo/connmap/internal/unpack"
	"github.com/connmapgo/connmap/rules"
)

// connmapperlRules are the names that connmapperl's rules file has had, the
// best first.
var connmapperlRules = []string{"connmapperl2rc.beep", ".connmaprc", "connmapperlrc2.beep", "connmap2rc", "connmapperlrc"}

// ownRules returns the file in which connmap keeps its own rules, and what to
// say of the choice. The C program connmap may have its settings in connmaprc:
// they stay as they are.
func (c config) ownRules() (name, note string) {
	name = filepath.Join(c.configDir, "connmaprc")
	if _, _, err := readRules(name); errors.Is(err, rules.ErrSettings) {
		return filepath.Join(c.configDir, "rules"), name + " holds settings of the C program connmap and is left alone"
	}
	return name, ""
}

// findRules chooses the rules file. Without -rules it is connmap's own if that
// has been edited, then the first of connmapperl's in the working directory or
// the home folder, then connmap's own, which may not exist yet. The notes say
// what was passed over and why.
func (c config) findRules() (name string, notes []string) {
	if c.rules != "" {
		return c.rules, nil
	}
	own, note := c.ownRules()
	if note != "" {
		notes = append(notes, note)
	}
	chosen := ""
	if set, _, err := readRules(own); !errors.Is(err, fs.ErrNotExist) && !(err == nil && isDefault(set)) {
		chosen = own
	}
	work, _ := os.Getwd()
	for _, dir := range slices.Compact([]string{work, c.homeDir}) {
		for _, base := range connmapperlRules {
			name := filepath.Join(dir, base)
			// What is no regular file might never end.
			if info, err := os.Stat(name); dir == "" || err != nil || !info.Mode().IsRegular() {
				continue
			}
			if _, _, err := readRules(name); errors.Is(err, rules.ErrSettings) {
				notes = append(notes, name+" holds settings of the C program connmap and is left alone")
				continue
			}
			if chosen != "" {
				return chosen, append(notes, fmt.Sprintf("%s is not read: -rules %[1]s takes it", name))
			}
			chosen = name
			break
		}
	}
	if chosen == "" {
		chosen = own
	}
	return chosen, notes
}

// readRules parses a rules file. Errors name it.
func readRules(name string) (*rules.Set, fs.FileInfo, error) {
	f, info, err := unpack.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	set, err := rules.Parse(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return set, info, err
}

// isDefault reports whether rules are those of the default file.
func isDefault(set *rules.Set) bool {
	return slices.EqualFunc(set.Rules(), rules.Default().Rules(), func(a, b rules.Rule) bool {
		a.Line, b.Line = 0, 0
		return a == b
	})
}

// complain says which lines of a rules file are bad and what to do, if others
// are good.
func complain(name string, set *rules.Set, err error) (text string, ok bool) {
	var bad *rules.SyntaxErrors
	if set == nil || !errors.As(err, &bad) {
		return "", false
	}
	return fmt.Sprintf("rules: %s, %s; mend %s\n%v", numbers.Count(len(bad.First)+bad.More, "bad line", "bad lines"),
		numbers.Count(len(set.Rules())-1, "other rule holds", "other rules hold"), name, bad), true
}

// A rulesSource is where the rules were read from last. Of the zero one they
// are the default rules.
type rulesSource struct {
	name  string
	info  fs.FileInfo // nil if the file could not be opened
	notes []string    // what was passed over, if the file was searched for
}

func (a *app) rulesSource() rulesSource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rules
}

// loadRules reads the rules file, the same as last time while it is there. A
// bad line costs that line; if no rule is good, the rules in use stay. It
// returns what to tell the user.
func (a *app) loadRules() (string, error) {
	src := rulesSource{name: a.rulesSource().name}
	if _, err := os.Stat(src.name); err != nil {
		src.name, src.notes = a.cfg.findRules()
		for _, note := range src.notes {
			a.log.Info("rules: " + note)
		}
	}
	set, info, err := readRules(src.name)
	if err == nil && info.Size() == 0 && src.name == a.rulesSource().name {
		err = fmt.Errorf("%s is empty, as while an editor writes it; a comment makes it a file without rules", src.name)
	}
	if own, _ := a.cfg.ownRules(); errors.Is(err, fs.ErrNotExist) && src.name == own {
		if err := writeNew(own, rules.DefaultFile); err != nil {
			a.log.Warn("the default rules are used, but not written for you to edit", "error", err)
			return "default rules", nil
		}
		set, info, err = readRules(own)
	}
	src.info = info
	a.mu.Lock()
	a.rules = src
	a.mu.Unlock()
	a.monitor.Problem("edited", "")
	complaint, some := complain(src.name, set, err)
	switch {
	case some:
		a.problem("rules", errors.New(complaint))
	case errors.Is(err, rules.ErrSettings):
		err = fmt.Errorf("rules: %w; the file is left alone and the rules in use stay: -rules FILE takes others", err)
	case err != nil:
		err = fmt.Errorf("rules: %w; the rules in use stay, mend the file and press c", err)
	default:
		a.monitor.Problem("rules", "")
	}
	if err != nil && !some {
		a.problem("rules", err)
		return "", err
	}
	a.monitor.SetRules(set)
	said := fmt.Sprintf("%s read from %s", numbers.Count(len(set.Rules())-1, "rule", "rules"), src.name)
	if len(set.Rules()) == 1 {
		said += ": all connections are Other"
	}
	a.log.Info(said)
	return said, nil
}

// foundRules says which rules were found, unless they are in connmaprc as
// always.
func (a *app) foundRules() string {
	src := a.rulesSource()
	if src.name == "" || a.cfg.rules != "" {
		return ""
	}
	switch own, note := a.cfg.ownRules(); {
	case src.name != own:
		return "rules from " + src.name
	case note != "":
		return "rules from " + own + "; " + note
	}
	return ""
}

// offerRules says that the rules file has been edited since it was read.
func (a *app) offerRules() {
	src := a.rulesSource()
	info, err := os.Stat(src.name)
	if err != nil {
		return // some editors remove the file before they write it
	}
	if src.info == nil || !info.ModTime().Equal(src.info.ModTime()) || info.Size() != src.info.Size() {
		a.monitor.Problem("edited", src.name+" has been edited; c reads it again")
	}
}

// queryRules names the rules of connections for a query. It reads the rules
// file when it is first asked: a query that asks for no rule needs no file.
// Only one goroutine may use it.
type queryRules struct {
	cfg     config
	set     *rules.Set
	warning string // about bad lines
	err     error  // of a file that cannot be read
}

// rules returns what the file says, or the default rules if it cannot be read.
func (q *queryRules) rules() *rules.Set {
	if q.set == nil && q.err == nil {
		q.read()
	}
	if q.set == nil {
		return rules.Default()
	}
	return q.set
}

func (q *queryRules) label(local, peer uint16, program, exe string) string {
	r, _ := q.rules().Match(rules.Conn{Local: local, Peer: peer, Comm: program, Exe: exe})
	return r.Label
}

func (q *queryRules) read() {
	name, _ := q.cfg.findRules()
	q.set, _, q.err = readRules(name)
	if own, _ := q.cfg.ownRules(); errors.Is(q.err, fs.ErrNotExist) && name == own {
		q.set, q.err = rules.Default(), nil
	}
	if complaint, some := complain(name, q.set, q.err); some {
		q.warning, q.err = complaint, nil
	} else if q.err != nil {
		q.err = fmt.Errorf("rules: %w", q.err)
	}
}

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

// connmapperlRules are the names of connmapperl's rules file in its versions, the newest first.
var connmapperlRules = []string{"connmapperl2rc.beep", ".connmaprc", "connmapperlrc2.beep", "connmap2rc", "connmapperlrc"}

// ownRules returns connmap's own rules file. If connmaprc holds settings of the C program
// connmap, it returns another file and a note that says why.
func (c config) ownRules() (name, note string) {
	name = filepath.Join(c.configDir, "connmaprc")
	if _, _, err := readRules(name); errors.Is(err, rules.ErrSettings) {
		return filepath.Join(c.configDir, "rules"), name + " has settings of the C program connmap and is not changed"
	}
	return name, ""
}

// findRules chooses the rules file. Without -rules it is connmap's own if that
// has been edited, then the first of connmapperl's in the working directory or
// the home folder, then connmap's own, which may not exist yet. The notes say
// which files were skipped and why.
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
			// To read a pipe or a device might never end.
			if info, err := os.Stat(name); dir == "" || err != nil || !info.Mode().IsRegular() {
				continue
			}
			if _, _, err := readRules(name); errors.Is(err, rules.ErrSettings) {
				notes = append(notes, name+" has settings of the C program connmap and is not changed")
				continue
			}
			if chosen != "" {
				return chosen, append(notes, fmt.Sprintf("%s is not used: use it with -rules %[1]s", name))
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

// describeBadLines describes the bad lines of a rules file and what to do. It is false if
// there are none, or no good ones.
func describeBadLines(name string, set *rules.Set, err error) (text string, ok bool) {
	var bad *rules.SyntaxErrors
	if set == nil || !errors.As(err, &bad) {
		return "", false
	}
	return fmt.Sprintf("rules: %s, %s; edit %s\n%v", numbers.Count(len(bad.First)+bad.More, "bad line", "bad lines"),
		numbers.Count(len(set.Rules())-1, "other rule is used", "other rules are used"), name, bad), true
}

// A rulesSource is the file that the rules were read from. The zero value means the default
// rules.
type rulesSource struct {
	name  string
	info  fs.FileInfo // nil if the file could not be opened
	notes []string    // skipped files, if the file was searched for
}

func (a *app) rulesSource() rulesSource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rules
}

// rulesStay says which rules are used when a file cannot be.
func (a *app) rulesStay() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hasRules {
		return "the rules in use stay"
	}
	return "the default rules are used"
}

// loadRules reads the rules file; if that no longer exists, it searches for one again. It
// skips bad lines. If no rule is good, it keeps the rules in use. It returns a message for
// the user.
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
		err = fmt.Errorf("%s is empty, perhaps because an editor is writing it; for no rules, write a comment into it", src.name)
	}
	if own, _ := a.cfg.ownRules(); errors.Is(err, fs.ErrNotExist) && src.name == own {
		if err := writeNew(own, rules.DefaultFile); err != nil {
			a.log.Warn("the default rules are used; they could not be written to a file for you to edit", "error", err)
			return "default rules", nil
		}
		set, info, err = readRules(own)
	}
	src.info = info
	a.mu.Lock()
	a.rules = src
	a.mu.Unlock()
	a.monitor.Problem("edited", "")
	complaint, some := describeBadLines(src.name, set, err)
	switch {
	case some:
		a.problem("rules", errors.New(complaint))
	case errors.Is(err, rules.ErrSettings):
		err = fmt.Errorf("rules: %w; the file is not changed and %s: choose another file with -rules FILE", err, a.rulesStay())
	case err != nil:
		err = fmt.Errorf("rules: %w; %s: fix the file and press c", err, a.rulesStay())
	default:
		a.monitor.Problem("rules", "")
	}
	if err != nil && !some {
		a.problem("rules", err)
		return "", err
	}
	a.monitor.SetRules(set)
	a.mu.Lock()
	a.hasRules = true
	a.mu.Unlock()
	said := fmt.Sprintf("%s read from %s", numbers.Count(len(set.Rules())-1, "rule", "rules"), src.name)
	if len(set.Rules()) == 1 {
		said += ": all connections are Other"
	}
	a.log.Info(said)
	return said, nil
}

// foundRules says which rules file was found, unless it is connmaprc.
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

// offerRules reports as a problem that the rules file was edited after it was read.
func (a *app) offerRules() {
	src := a.rulesSource()
	info, err := os.Stat(src.name)
	if err != nil {
		return // some editors remove the file before they write it
	}
	if src.info == nil || !info.ModTime().Equal(src.info.ModTime()) || info.Size() != src.info.Size() {
		a.monitor.Problem("edited", src.name+" has been edited: press c to read it again")
	}
}

// queryRules finds the rules of connections for a query. It reads the rules file on the first
// call: a query that uses no rule needs no file.
// Only one goroutine may use it.
type queryRules struct {
	cfg     config
	set     *rules.Set
	warning string // about bad lines
	err     error  // of a file that cannot be read
}

// rules returns the rules of the file, or the default rules if it cannot be read.
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
	if complaint, some := describeBadLines(name, q.set, q.err); some {
		q.warning, q.err = complaint, nil
	} else if q.err != nil {
		q.err = fmt.Errorf("rules: %w", q.err)
	}
}

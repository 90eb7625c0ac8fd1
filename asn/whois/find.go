package whois

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// Found are the files in a data folder by what they hold, newest first by unpack.Date. A file that
// holds both places and AS numbers is in both lists.
type Found struct {
	Places, Networks, Delegations, Orgs, AutNums []string
}

// Find lists the files in a data folder, which may be missing. Newer files are better; files with
// names only come after those with organisations. It warns of files that it cannot read.
func Find(folder string, warn func(string)) (found Found) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return found // the default folder, which may be missing
	}
	type file struct {
		name string
		stat fs.FileInfo
	}
	var all []file
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		if IsOwn(e.Name()) {
			continue
		}
		// Reading a pipe could block, or a file of /proc, which has no size.
		switch stat, err := os.Stat(name); {
		case err != nil || !stat.Mode().IsRegular():
		case stat.Size() == 0 && isData(name):
			leaveOut(warn, fmt.Errorf("%s: it is empty", name))
		case stat.Size() > 0:
			all = append(all, file{name, stat})
		}
	}
	namesOnly := func(f file) int {
		if filepath.Ext(f.name) == ".dbm" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b file) int {
		return cmp.Or(namesOnly(a)-namesOnly(b), unpack.Date(b.name, b.stat.ModTime()).Compare(unpack.Date(a.name, a.stat.ModTime())))
	})
	for _, f := range all {
		kind, err := Recognise(f.name)
		if err == nil && kind == (Kind{}) && isData(f.name) {
			err = fmt.Errorf("%s: it is neither a table nor a file of a registry%s", f.name, unread(f.name))
		}
		if err != nil {
			leaveOut(warn, err)
			continue
		}
		for _, list := range []struct {
			is bool
			of *[]string
		}{{kind.Places, &found.Places}, {kind.Networks, &found.Networks}, {kind.Delegations, &found.Delegations}, {kind.Orgs, &found.Orgs}, {kind.AutNums, &found.AutNums}} {
			if list.is {
				*list.of = append(*list.of, f.name)
			}
		}
	}
	return found
}

// unread returns a colon and why the layout of a file is not known, if that can be said.
func unread(name string) string {
	f, info, err := unpack.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	r, err := unpack.Reader(f, layout.Max)
	if err != nil {
		return ""
	}
	_, err = layout.Recognise(&ranges.File{Reader: r, Name: name, Size: info.Size(), At: f})
	if !errors.Is(err, layout.ErrUnknown) {
		return ""
	}
	reason := strings.TrimSuffix(err.Error(), "; "+layout.Understood)
	return ": " + strings.TrimPrefix(reason, layout.ErrUnknown.Error()+": ")
}

// IsOwn reports whether a name in a data folder is one of connmap's own files there, or hidden:
// the history, places.txt, downloads that go on, and notes about them. Find reads none of them.
func IsOwn(name string) bool {
	switch filepath.Ext(name) {
	case ".meta", ".part", ".new", ".lock":
		return true
	}
	return strings.Contains(name, ".sqlite") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "places.txt")
}

// isData reports whether a file is meant to be read by its name: others in the folder, such as those
// of connmap itself, are no data.
func isData(name string) bool {
	name = filepath.Base(name)
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv", ".tsv", ".mmdb", ".dat", ".bin", ".gz", ".xz", ".bz2", ".zst", ".lzma", ".zip", ".tar", ".tgz", ".dbm", ".json", ".jsonl", ".txt", ".pfx2as":
		return !strings.Contains(name, "-Locations-") // which are read with others
	}
	return strings.HasPrefix(name, "delegated")
}

// A Kind says what a file holds. The zero Kind is one that no program of connmap reads.
type Kind struct {
	Name     string // for people
	Places   bool   // for geoip.Open
	Networks bool   // for asn.Open
	// For asn.OpenDelegations, asn.OpenOrgs and asn.OpenAutNums.
	Delegations, Orgs, AutNums bool
}

// Recognise returns the kind of a file by its content, whatever its name. It fails if the file
// cannot be read. A recognised file may still be damaged.
func Recognise(name string) (Kind, error) {
	k, err := asn.Recognise(name)
	if err != nil {
		return Kind{}, err
	}
	switch k {
	case asn.DelegationFile:
		return Kind{Name: k.String(), Delegations: true}, nil
	case asn.OrgFile:
		return Kind{Name: k.String(), Orgs: true}, nil
	case asn.AutNumFile:
		return Kind{Name: k.String(), AutNums: true}, nil
	}
	t, err := geoip.Recognise(name)
	return Kind{Name: t, Places: t != "", Networks: k == asn.TableFile}, err
}

// leaveOut warns that a found file is not used.
func leaveOut(warn func(string), err error) {
	s := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "asn: "), "geoip: ")
	warn("left out: " + s)
}

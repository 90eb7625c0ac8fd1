package whois

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/asn"
)

// find lists the files in the data folder by kind, best first. Newer files are better; files
// with only names come after those with organisations. Tables of places have the kind
// Unknown.
func (f *Files) find(warn func(string)) map[asn.Kind][]string {
	entries, err := os.ReadDir(f.Data)
	if err != nil {
		return nil // the default folder, which may be missing
	}
	type file struct {
		name string
		stat fs.FileInfo
	}
	var all []file
	for _, e := range entries {
		name := filepath.Join(f.Data, e.Name())
		// Files of connmap-data and of the history are skipped.
		switch ext := filepath.Ext(name); {
		case ext == ".meta", ext == ".part", ext == ".new", ext == ".lock", strings.Contains(e.Name(), ".sqlite"), strings.HasPrefix(e.Name(), "."), strings.HasPrefix(e.Name(), "places.txt"):
			continue
		}
		// A pipe may have no end.
		if stat, err := os.Stat(name); err == nil && stat.Mode().IsRegular() {
			all = append(all, file{name, stat})
		}
	}
	slices.SortStableFunc(all, func(a, b file) int {
		return cmp.Or(rank(a.name)-rank(b.name), b.stat.ModTime().Compare(a.stat.ModTime()))
	})
	found := make(map[asn.Kind][]string)
	for _, f := range all {
		kind, err := asn.Recognise(f.name)
		if err != nil {
			leaveOut(warn, err)
			continue
		}
		found[kind] = append(found[kind], f.name)
	}
	return found
}

// rank orders files of one kind. Cities are better than countries, and files whose names look
// like tables of places come first.
func rank(name string) int {
	name = strings.ToLower(filepath.Base(name))
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".xz")
	switch ext := filepath.Ext(name); {
	case strings.Contains(name, "city"):
		return 0
	case ext == ".mmdb", ext == ".csv", ext == ".geo", ext == ".tsv":
		return 1
	case ext == ".dbm":
		return 3
	}
	return 2
}

// leaveOut warns that a found file is not used.
func leaveOut(warn func(string), err error) {
	s := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "asn: "), "geoip: ")
	warn("left out: " + s)
}

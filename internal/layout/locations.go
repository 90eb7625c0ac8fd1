package layout

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A location is what a row of GeoLite2's locations says.
type location struct {
	country, city string
	region        bool
}

// place adds the names of a row of blocks, which stand in the file of locations.
func (t *text) place(f [][]byte, facts *Facts) {
	l, known := t.locations[string(t.field(f, id))]
	if !known && len(t.field(f, id)) > 0 {
		t.unnamed.Add(1)
	}
	if !known || l.country == "" {
		// If the country of the users is unknown, that where the network is
		// registered has to do.
		l.country = t.locations[string(t.field(f, registered))].country
	}
	facts.Country, facts.City = cmp.Or(facts.Country, l.country), cmp.Or(facts.City, l.city)
	facts.Region = facts.Region || l.region
}

// locate reads the locations beside a file of blocks.
func (t *text) locate(f *ranges.File, report *Report) error {
	dir, name := folder(f)
	where, err := locationsBeside(dir, name)
	if err == nil && where == "" && f.In != nil && f.In.Name != "" {
		// They may lie beside the archive.
		base := path.Base(name)
		dir, name = folder(f.In)
		where, err = locationsBeside(dir, path.Join(path.Dir(name), base))
	}
	if err != nil {
		return err
	}
	if where == "" {
		want := locationsOf(path.Base(name))
		if !t.has(lat) && !t.has(country) {
			return fmt.Errorf("has no coordinates, and the names of its countries are missing: put %s beside it", want)
		}
		report.Remarks = append(report.Remarks, "the names of its cities and countries are missing: put "+want+" beside it")
		return nil
	}
	if !strings.Contains(path.Base(where), "-en.csv") {
		report.Remarks = append(report.Remarks, "the names of its cities are those of "+path.Base(where)+", since "+locationsOf(path.Base(name))+" is missing")
	}
	l, err := dir.Open(where)
	if err != nil {
		return err
	}
	defer l.Close()
	r, err := unpack.Reader(l, maxLocations)
	if err == nil {
		t.locations, err = readLocations(r)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

// folder returns the folder or the archive in which a file lies, and its name there.
func folder(f *ranges.File) (fs.FS, string) {
	if f.Beside != nil {
		return f.Beside, f.Name
	}
	dir, base := filepath.Split(f.Name)
	return os.DirFS(cmp.Or(dir, ".")), base
}

// maxLocations is how many bytes a file of locations has at most; that of all cities has 20 MB.
const maxLocations = 256 << 20

// locationsOf returns the name of the file of locations in English that belongs to one of
// blocks.
func locationsOf(blocks string) string {
	return locationsStem(blocks) + "en.csv"
}

func locationsStem(blocks string) string {
	before, _, ok := strings.Cut(blocks, "-Blocks-IPv")
	if !ok {
		before = "GeoLite2-City"
	}
	return before + "-Locations-"
}

// locationsBeside returns the name of the file of locations beside a file of blocks: that in
// English or, if that is missing, another. It is empty if there are none.
func locationsBeside(dir fs.FS, blocks string) (string, error) {
	in, base := path.Dir(blocks), path.Base(blocks)
	for _, suffix := range []string{"", ".gz", ".xz"} {
		name := path.Join(in, locationsOf(base)+suffix)
		if _, err := fs.Stat(dir, name); err == nil {
			return name, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	entries, err := fs.ReadDir(dir, in)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(entries, func(e fs.DirEntry) bool {
		return strings.HasPrefix(e.Name(), locationsStem(base)) && e.Type().IsRegular()
	})
	if i < 0 {
		return "", nil
	}
	return path.Join(in, entries[i].Name()), nil
}

// Beside returns the files that are read together with a file.
func Beside(name string) []string {
	if !strings.Contains(filepath.Base(name), "-Blocks-IPv") {
		return nil
	}
	dir, base := filepath.Split(name)
	if where, err := locationsBeside(os.DirFS(cmp.Or(dir, ".")), base); err == nil && where != "" {
		return []string{dir + where}
	}
	return nil
}

// readLocations reads a file of locations.
func readLocations(r io.Reader) (map[string]location, error) {
	all := make(map[string]location)
	at := []int(nil)
	var f [][]byte
	err := blocks(r, func(b *block) bool {
		n := b.line - 1
		for line := range bytes.Lines(b.lines) {
			n++
			if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			f = appendFields(f[:0], line, ',')
			if at == nil {
				if at = columns(f, "geoname_id", "country_iso_code", "city_name", "subdivision_1_iso_code"); at[0] < 0 || at[1] < 0 {
					b.bad = errors.New("line 1: expected the columns geoname_id and country_iso_code")
				}
				continue
			}
			field := func(i int) []byte {
				if i < 0 || i >= len(f) {
					return nil
				}
				return f[i]
			}
			all[string(field(at[0]))] = location{string(bytes.ToUpper(field(at[1]))), name(field(at[2])), len(field(at[3])) > 0}
		}
		close(b.done)
		return true
	})
	if err == nil && (at == nil || at[0] < 0 || at[1] < 0) {
		err = errors.New("line 1: expected the columns geoname_id and country_iso_code")
	}
	return all, err
}

// columns finds the named columns in a line that names all. A missing one is -1.
func columns(fields [][]byte, names ...string) []int {
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = slices.IndexFunc(fields, func(f []byte) bool { return string(f) == name })
	}
	return at
}

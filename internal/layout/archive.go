package layout

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// maxMembers is how many files of an archive are looked at.
const maxMembers = 1000

// maxSearches is for how many members of a tar archive it is read once more.
const maxSearches = 10

// An archive reads the tables among its members as one.
type archive struct {
	read    func(*ranges.File) (Report, error)
	coarse  map[string]string // members that are left out, each with a member that has more
	all     Report
	unknown error // of the first member that is no table
	found   int
}

// A walk calls member with the names of an archive's files, in their order, and what opens each
// until member returns. The archive is read from r unless another way is quicker. It returns whether
// there are more files than it looks at.
type walk func(f *ranges.File, r io.Reader, member func(name string, open opener) error) (more bool, err error)

type opener func() (*ranges.File, error)

// readArchive reads the tables of an archive.
func readArchive(f *ranges.File, files walk, limit int64, read func(*ranges.File) (Report, error)) (Report, error) {
	a := &archive{read: read}
	if limit == math.MaxInt64 && (f.At != nil || f.Again != nil) {
		a.findCoarse(f, files)
	}
	more, err := files(f, f, a.member)
	if err != nil {
		return a.all, err
	}
	if more {
		a.all.Remarks = append(a.all.Remarks, fmt.Sprintf("only the first %d files of the archive were looked at", maxMembers))
	}
	return a.report()
}

// findCoarse finds tables that have countries only, beside tables with points such as those of cities.
// A small network of the former would hide a city. Reading reports damage, so this does not.
func (a *archive) findCoarse(f *ranges.File, files walk) {
	pass := func(member func(string, opener) error) {
		if r, err := again(f); err == nil {
			files(f, r, member)
		}
	}
	tables := 0
	pass(func(name string, _ opener) error {
		if ext := strings.ToLower(path.Ext(name)); ext != ".txt" && ext != ".md" && !locationsOnly(name) {
			tables++
		}
		return nil
	})
	if tables < 2 {
		return
	}
	fine, coarse := "", map[string]string{}
	pass(func(name string, open opener) error {
		m, err := open()
		if err != nil {
			return nil
		}
		sink := &pointed{}
		r, err := read(m, sink, recogniseRows)
		switch {
		case err != nil || !r.Kind.Places:
		case sink.seen || r.points:
			fine = cmp.Or(fine, path.Base(name))
		case !r.Kind.Networks:
			coarse[name] = ""
		}
		return nil
	})
	for name := range coarse {
		coarse[name] = fine
	}
	a.coarse = coarse
}

// member reads a member of an archive if it is a table.
func (a *archive) member(name string, open opener) error {
	base := path.Base(name)
	leave := func(why string) {
		if len(a.all.Remarks) < maxLeft {
			a.all.Remarks = append(a.all.Remarks, base+" inside is left out: "+why)
		}
	}
	if locationsOnly(name) {
		return nil
	}
	if fine := a.coarse[name]; fine != "" {
		leave("it has countries only, and " + fine + " has more")
		return nil
	}
	f, err := open()
	if err != nil && isNamedTable(base) {
		leave(err.Error())
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r, err := a.read(f)
	switch {
	case errors.Is(err, ErrUnknown):
		if a.unknown == nil {
			a.unknown = fmt.Errorf("%s: %w", name, err)
		}
		if isNamedTable(base) { // else a licence, perhaps
			leave(strings.TrimSuffix(err.Error(), "; "+Understood))
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	a.found++
	a.all.Rows += r.Rows
	a.all.Skipped += r.Skipped
	a.all.Truncated = a.all.Truncated || r.Truncated
	a.all.Kind.Places = a.all.Kind.Places || r.Kind.Places
	a.all.Kind.Networks = a.all.Kind.Networks || r.Kind.Networks
	switch has := a.all.Kind.Name; {
	case has == "":
		a.all.Kind.Name = r.Kind.Name
	case !strings.Contains(has, r.Kind.Name) && len(has) < 100:
		a.all.Kind.Name += " and " + r.Kind.Name
	}
	if a.all.Date.IsZero() || !r.Date.IsZero() && r.Date.Before(a.all.Date) {
		a.all.Date = r.Date
	}
	for _, remark := range r.Remarks {
		a.all.Remarks = append(a.all.Remarks, base+": "+remark)
	}
	return nil
}

// maxLeft is the maximum number of remarks on members that are left out.
const maxLeft = 10

// isNamedTable reports whether a file is called as tables are.
func isNamedTable(name string) bool {
	name = strings.ToLower(name)
	for _, packed := range []string{".gz", ".xz", ".bz2", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	return slices.Contains([]string{".csv", ".tsv", ".mmdb", ".bin", ".dat", ".json", ".jsonl", ".ndjson", ".pfx2as"}, path.Ext(name))
}

// report returns what all members together are.
func (a *archive) report() (Report, error) {
	if a.found > 0 {
		return a.all, nil
	}
	if a.unknown != nil {
		return a.all, fmt.Errorf("no file of the archive is a table: %w", a.unknown)
	}
	return a.all, fmt.Errorf("%w: the archive has no files", ErrUnknown)
}

// A pointed is a Sink that notes whether a row has a point.
type pointed struct {
	nothing
	seen bool
}

// ID implements Sink.
func (p *pointed) ID(f Facts) (uint32, error) {
	p.seen = p.seen || f.Point
	return 0, nil
}

// locationsOnly reports whether a file only names what others refer to.
func locationsOnly(name string) bool { return strings.Contains(path.Base(name), "-Locations-") }

// walkZip is a walk of a zip archive. Each file has those beside it.
func walkZip(f *ranges.File, _ io.Reader, member func(string, opener) error) (more bool, err error) {
	if f.At == nil {
		return false, fmt.Errorf("%w: a zip archive within compressed data", ErrUnknown)
	}
	z, err := zip.NewReader(f.At, f.Size)
	if err != nil {
		return false, fmt.Errorf("damaged zip archive: %w", err)
	}
	for i, m := range z.File {
		if i == maxMembers {
			return true, nil
		}
		if !m.FileInfo().Mode().IsRegular() {
			continue
		}
		var opened []io.Closer
		content := func() (*bufio.Reader, error) {
			if m.Flags&1 != 0 {
				return nil, errors.New("is encrypted: unpack the archive with its password")
			}
			r, err := m.Open()
			if err != nil {
				return nil, err
			}
			opened = append(opened, r)
			// What it says of its sizes need not be true.
			return unpack.Member(r, int64(m.CompressedSize64), Max)
		}
		err := member(m.Name, func() (*ranges.File, error) {
			r, err := content()
			return &ranges.File{Reader: r, Name: m.Name, Size: int64(min(m.UncompressedSize64, Max)), ModTime: m.Modified, Beside: z, In: f,
				Again: func() (io.Reader, error) { return content() }}, err
		})
		for _, c := range opened {
			c.Close()
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// walkTar is a walk of a tar archive.
func walkTar(f *ranges.File, r io.Reader, member func(string, opener) error) (more bool, err error) {
	t := tar.NewReader(r)
	searched := 0
	search := func() error {
		// Each search reads the archive up to the member.
		if searched++; searched > maxSearches {
			return fmt.Errorf("%w: one of more than %d tables in a tar archive that it is read for again", ErrUnknown, maxSearches)
		}
		return nil
	}
	beside := &tarFolder{f: f, search: search}
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF || err == nil && n == maxMembers {
			return err == nil, nil
		}
		if err != nil {
			return false, fmt.Errorf("damaged tar archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		err = member(path.Clean(h.Name), func() (*ranges.File, error) {
			r, err := unpack.Member(t, h.Size, Max)
			m := &ranges.File{Reader: r, Name: path.Clean(h.Name), Size: min(h.Size, Max), ModTime: h.ModTime, Beside: beside, In: f}
			if f.At != nil || f.Again != nil {
				m.Again = func() (io.Reader, error) {
					if err := search(); err != nil {
						return nil, err
					}
					return tarMember(f, n)
				}
			}
			return m, err
		})
		if err != nil {
			return false, err
		}
	}
}

// tarMember returns the content of the member of a tar archive before which there are n.
func tarMember(f *ranges.File, n int) (io.Reader, error) {
	r, err := again(f)
	if err != nil {
		return nil, err
	}
	t := tar.NewReader(r)
	for range n + 1 {
		if _, err := t.Next(); err != nil {
			return nil, fmt.Errorf("damaged tar archive: %w", err)
		}
	}
	return unpack.Reader(io.LimitReader(t, Max), Max)
}

// A tarFolder is the files of a tar archive, as far as they are looked for beside one of them. Their
// list is read once, and each file that is opened once more.
type tarFolder struct {
	f       *ranges.File
	search  func() error
	members map[string]tarHeader // nil: not read yet
}

type tarHeader struct {
	fs.FileInfo
	before int // members
}

// list reads the names of all members. An archive that cannot be read again has none.
func (t *tarFolder) list() (map[string]tarHeader, error) {
	if t.members != nil || t.f.At == nil && t.f.Again == nil {
		return t.members, nil
	}
	if err := t.search(); err != nil {
		return nil, err
	}
	r, err := again(t.f)
	if err != nil {
		return nil, err
	}
	t.members = make(map[string]tarHeader)
	in := tar.NewReader(r)
	for n := range maxMembers {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("damaged tar archive: %w", err)
		}
		if h.Typeflag == tar.TypeReg {
			t.members[path.Clean(h.Name)] = tarHeader{h.FileInfo(), n}
		}
	}
	return t.members, nil
}

// Stat implements fs.StatFS.
func (t *tarFolder) Stat(name string) (fs.FileInfo, error) {
	members, err := t.list()
	if h, ok := members[name]; ok {
		return h.FileInfo, nil
	}
	return nil, cmp.Or(err, error(&fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}))
}

// ReadDir implements fs.ReadDirFS.
func (t *tarFolder) ReadDir(dir string) (entries []fs.DirEntry, err error) {
	members, err := t.list()
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if path.Dir(name) == dir {
			entries = append(entries, fs.FileInfoToDirEntry(members[name].FileInfo))
		}
	}
	return entries, err
}

// Open implements fs.FS.
func (t *tarFolder) Open(name string) (fs.File, error) {
	info, err := t.Stat(name)
	if err == nil {
		err = t.search()
	}
	if err != nil {
		return nil, err
	}
	r, err := tarMember(t.f, t.members[name].before)
	return tarFile{r, info}, err
}

// A tarFile is an open member.
type tarFile struct {
	io.Reader
	info fs.FileInfo
}

func (f tarFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (tarFile) Close() error                 { return nil }

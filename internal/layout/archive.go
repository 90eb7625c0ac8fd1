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
	all     Report
	unknown error // of the first member that is no table
	found   int
}

// member reads a member of an archive if it is a table.
func (a *archive) member(f *ranges.File) error {
	if locationsOnly(f.Name) {
		return nil
	}
	r, err := a.read(f)
	switch {
	case errors.Is(err, ErrUnknown):
		if a.unknown == nil {
			a.unknown = fmt.Errorf("%s: %w", f.Name, err)
		}
		return nil // a licence, perhaps
	case err != nil:
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	a.found++
	a.all.Rows += r.Rows
	a.all.Skipped += r.Skipped
	a.all.Truncated = a.all.Truncated || r.Truncated
	a.all.Kind.Places = a.all.Kind.Places || r.Kind.Places
	a.all.Kind.Networks = a.all.Kind.Networks || r.Kind.Networks
	if a.all.Kind.Name == "" {
		a.all.Kind.Name = r.Kind.Name
	}
	if a.all.Date.IsZero() || !r.Date.IsZero() && r.Date.Before(a.all.Date) {
		a.all.Date = r.Date
	}
	for _, remark := range r.Remarks {
		a.all.Remarks = append(a.all.Remarks, path.Base(f.Name)+": "+remark)
	}
	return nil
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

// locationsOnly reports whether a file only names what others refer to.
func locationsOnly(name string) bool { return strings.Contains(path.Base(name), "-Locations-") }

// readZip reads the tables of a zip archive, each with the files beside it.
func readZip(f *ranges.File, read func(*ranges.File) (Report, error)) (Report, error) {
	if f.At == nil {
		return Report{}, fmt.Errorf("%w: a zip archive within compressed data", ErrUnknown)
	}
	z, err := zip.NewReader(f.At, f.Size)
	if err != nil {
		return Report{}, fmt.Errorf("damaged zip archive: %w", err)
	}
	a := &archive{read: read}
	for i, m := range z.File {
		if i == maxMembers {
			a.all.Remarks = append(a.all.Remarks, fmt.Sprintf("only the first %d files of the archive were looked at", maxMembers))
			break
		}
		if !m.FileInfo().Mode().IsRegular() || m.UncompressedSize64 == 0 {
			continue
		}
		err := func() error {
			r, err := m.Open()
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			defer r.Close()
			// What it says of its sizes need not be true.
			unpacked := func(r io.Reader) (*bufio.Reader, error) { return unpack.Member(r, int64(m.CompressedSize64), Max) }
			br, err := unpacked(r)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			again := func() (io.Reader, error) {
				r, err := m.Open()
				if err != nil {
					return nil, err
				}
				return unpacked(r)
			}
			return a.member(&ranges.File{Reader: br, Name: m.Name, Size: int64(min(m.UncompressedSize64, Max)), ModTime: m.Modified, Beside: z, Again: again})
		}()
		if err != nil {
			return a.all, err
		}
	}
	return a.report()
}

// readTar reads the tables of a tar archive.
func readTar(f *ranges.File, read func(*ranges.File) (Report, error)) (Report, error) {
	t := tar.NewReader(f)
	a := &archive{read: read}
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
			return a.report()
		}
		if err != nil {
			return a.all, fmt.Errorf("damaged tar archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			continue
		}
		m := &ranges.File{Reader: bufio.NewReaderSize(io.LimitReader(t, Max), 256<<10), Name: path.Clean(h.Name), Size: min(h.Size, Max), ModTime: h.ModTime, Beside: beside}
		if f.At != nil || f.Again != nil {
			m.Again = func() (io.Reader, error) {
				if err := search(); err != nil {
					return nil, err
				}
				return tarMember(f, n)
			}
		}
		if err := a.member(m); err != nil {
			return a.all, err
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
	return io.LimitReader(t, Max), nil
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

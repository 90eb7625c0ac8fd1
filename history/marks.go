package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/internal/temp"
)

// A Mark is a place and how many openings of connections were counted there.
type Mark struct {
	Lat, Lon float64 // degrees, north and east positive
	Count    int64
}

// The places file says how often connections were opened at each place, for programs without a
// database. connmapperl called it the simple history. It is a text file: a line
//
//	connmap places 1
//
// and then a line for each place, of latitude and longitude in degrees and the
// count, with tabs between, in UTF-8. Lines that begin with # are comments.
const marksHeader = "connmap places 1"

// SaveMarks writes places and their counts into a file, which it replaces only when all
// is written. It stops at the first error of marks.
func SaveMarks(name string, marks iter.Seq2[Mark, error]) error {
	f, err := temp.Create(filepath.Dir(name), filepath.Base(name)+".*.new")
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, marksHeader)
	for m, err := range marks {
		if err != nil {
			f.Close()
			return err
		}
		b := strconv.AppendFloat(w.AvailableBuffer(), m.Lat, 'f', -1, 64)
		b = strconv.AppendFloat(append(b, '\t'), m.Lon, 'f', -1, 64)
		b = strconv.AppendInt(append(b, '\t'), m.Count, 10)
		w.Write(append(b, '\n'))
	}
	err = errors.Join(w.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// LoadMarks reads what SaveMarks wrote. On error it returns nothing.
func LoadMarks(name string) ([]Mark, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer f.Close()
	marks, err := readMarks(f)
	if err != nil {
		return nil, fmt.Errorf("history: %s: %w", name, err)
	}
	return marks, nil
}

func readMarks(r io.Reader) ([]Mark, error) {
	s := bufio.NewScanner(r)
	if !s.Scan() || strings.TrimRight(s.Text(), "\r") != marksHeader {
		if err := s.Err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("not a file of places: the first line should be %q", marksHeader)
	}
	var marks []Mark
	for n := 2; s.Scan(); n++ {
		line := strings.TrimRight(s.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		m, err := parseMark(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		marks = append(marks, m)
	}
	return marks, s.Err()
}

func parseMark(line string) (m Mark, err error) {
	f := strings.Split(line, "\t")
	if len(f) != 3 {
		return m, fmt.Errorf("want latitude, longitude and count with tabs between, found %d fields", len(f))
	}
	lat, latErr := strconv.ParseFloat(f[0], 64)
	lon, lonErr := strconv.ParseFloat(f[1], 64)
	if latErr != nil || lonErr != nil || !(lat >= -90 && lat <= 90) || !(lon >= -180 && lon <= 180) {
		return m, fmt.Errorf("want a latitude from -90 to 90 and a longitude from -180 to 180, found %.40q", f[0]+" "+f[1])
	}
	count, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || count < 1 || count > MaxCounter {
		return m, fmt.Errorf("want a positive count, found %.40q", f[2])
	}
	return Mark{lat, lon, count}, nil
}

package geoip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
)

// understood is what Open can read.
const understood = "understood are MaxMind DB files (.mmdb) of cities or countries and " +
	"ipv4.csv with lines start,end,latitude,longitude, both also compressed with gzip"

// Open reads a table from a file, whose format it recognises by the content
// and not by the name. It understands
//
//   - MaxMind DB files of cities or countries, in the layouts of MaxMind,
//     DB-IP and IPinfo; Info.Date is when the database was built;
//   - connmap's ipv4.csv with lines start,end,latitude,longitude, the addresses
//     in decimal; Info.Date is when the file was modified. Rows without
//     coordinates are left out, and the first and last addresses of networks,
//     which the tool that makes these files loses, are put back;
//   - either compressed with gzip.
//
// The whole file is read and compiled into memory, and may be changed or
// removed afterwards. A damaged file is an error that says where.
func Open(name string) (*DB, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("geoip: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("geoip: %w", err)
	}
	var buf bytes.Buffer
	// ReadFrom wants room to find the end of the file without growing.
	buf.Grow(int(min(info.Size(), 1<<30)) + bytes.MinRead)
	if _, err := buf.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("geoip: %w", err)
	}
	data := buf.Bytes()
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		if data, err = gunzip(data); err != nil {
			return nil, fmt.Errorf("geoip: %s: %w", name, err)
		}
	}
	b := newBuilder()
	date := info.ModTime()
	switch {
	case len(data) == 0:
		err = errors.New("the file is empty")
	case isMMDB(data):
		date, err = readMMDB(b, data)
	case isCSV(data):
		err = readCSV(b, data)
	case bytes.IndexByte(data[:min(len(data), 4096)], 0) >= 0:
		err = errors.New("binary data without the metadata that ends a MaxMind DB file: cut short, or not a table of places; " + understood)
	default:
		err = errors.New("not a table of places; " + understood)
	}
	if err != nil {
		return nil, fmt.Errorf("geoip: %s: %w", name, err)
	}
	db, err := b.compile(date)
	if err != nil {
		return nil, fmt.Errorf("geoip: %s: %w", name, err)
	}
	return db, nil
}

func gunzip(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		_, err = io.Copy(&buf, z)
	}
	if err != nil {
		return nil, fmt.Errorf("damaged gzip data after %d bytes of content: %w", buf.Len(), err)
	}
	return buf.Bytes(), nil
}

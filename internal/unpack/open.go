package unpack

import (
	"errors"
	"io/fs"
	"os"
)

// Open opens a regular file for reading: opening a pipe could block for ever. Errors have the
// type [*fs.PathError].
func Open(name string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil: // os.Open below returns it
	case info.IsDir():
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a folder, expected a file")}
	case !info.Mode().IsRegular():
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is not a regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info == nil { // the file has appeared since
		if info, err = f.Stat(); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	return f, info, nil
}

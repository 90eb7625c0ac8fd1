//go:build !unix

package ranges

import "os"

func mapFile(name string) (string, os.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	s, err := readFile(f)
	return s, nil, err
}

//go:build !unix

package geoip

import "os"

func mapFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readFile(f)
}

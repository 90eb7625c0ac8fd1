//go:build !linux

package conntrack

import (
	"errors"
	"fmt"
	"runtime"
)

func open(Options) (backend, error) {
	return nil, fmt.Errorf("no sockets can be read on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

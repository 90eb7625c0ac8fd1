package conntrack

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// A candidate is a backend that may work here.
type candidate struct {
	name Backend
	open func(Options) (backend, error)
}

func open(o Options) (backend, error) {
	var failed error
	var reasons []string
	for _, c := range candidates {
		if o.Backend != Auto && o.Backend != c.name {
			continue
		}
		b, err := c.open(o)
		if err == nil && failed == nil {
			return b, nil
		}
		if err == nil {
			return &fallback{b, strings.Join(reasons, "; ")}, nil
		}
		o.Logger.Debug("conntrack: a backend does not work here", "backend", c.name, "error", err)
		reasons = append(reasons, fmt.Sprintf("%s does not work here: %v", c.name, err))
		if failed == nil {
			failed = fmt.Errorf("%s: %w", c.name, err)
		} else {
			failed = fmt.Errorf("%w; %s: %w", failed, c.name, err)
		}
	}
	if failed == nil {
		return nil, unsupported(o.Backend)
	}
	return nil, failed
}

// unsupported returns the error for a system that has no backend, or not the requested one.
func unsupported(b Backend) error {
	if len(candidates) == 0 {
		return fmt.Errorf("no sockets can be read on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	return fmt.Errorf("%w: %s has no backend %s", errors.ErrUnsupported, runtime.GOOS, b)
}

// A fallback is a backend that replaces better ones, which do not work here.
type fallback struct {
	backend
	reasons string // why the better ones do not work
}

func (f *fallback) info() Info {
	i := f.backend.info()
	if i.Limited != "" {
		i.Limited = "; " + i.Limited
	}
	i.Limited = f.reasons + i.Limited
	return i
}

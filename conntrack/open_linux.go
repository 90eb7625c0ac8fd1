package conntrack

import (
	"fmt"
	"strings"
)

type tier struct {
	name Backend
	open func(Options) (backend, error)
}

// tiers are the backends in the order in which Auto tries them.
var tiers = []tier{{EBPF, openEBPF}, {Diag, openDiag}, {Proc, openProc}, {SS, openSS}}

func open(o Options) (backend, error) {
	var failed error
	var reasons []string
	for _, t := range tiers {
		if o.Backend != Auto && o.Backend != t.name {
			continue
		}
		b, err := t.open(o)
		if err == nil && failed == nil {
			return b, nil
		}
		if err == nil {
			return &fallback{b, strings.Join(reasons, "; ")}, nil
		}
		o.Logger.Debug("conntrack: a backend does not work here", "backend", t.name, "error", err)
		reason := fmt.Sprintf("%s does not work here: %v", t.name, err)
		if t.name == EBPF {
			reason = "connections shorter than a second may be missed, for " + reason
		}
		reasons = append(reasons, reason)
		if failed == nil {
			failed = fmt.Errorf("%s: %w", t.name, err)
		} else {
			failed = fmt.Errorf("%w; %s: %w", failed, t.name, err)
		}
	}
	return nil, failed
}

// A fallback is a backend in the place of better ones.
type fallback struct {
	backend
	reasons string // why they do not work
}

func (f *fallback) info() Info {
	i := f.backend.info()
	if i.Limited != "" {
		i.Limited = "; " + i.Limited
	}
	i.Limited = f.reasons + i.Limited
	return i
}

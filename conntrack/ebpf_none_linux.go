//go:build !(amd64 || arm64 || loong64 || riscv64)

package conntrack

import (
	"errors"
	"fmt"
	"runtime"
)

func openEBPF(Options) (backend, error) {
	return nil, fmt.Errorf("there are no kernel programs for the processor %s: %w", runtime.GOARCH, errors.ErrUnsupported)
}

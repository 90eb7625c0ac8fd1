//go:build !amd64 && !arm64 && !arm && !riscv64

package confine

import "errors"

func filter(Keep, Set) error { return errors.ErrUnsupported }

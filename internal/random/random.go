// Package random gives tests random numbers that can be repeated. Tests with constant numbers do
// not need it: they seed a generator themselves.
package random

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
)

// Variable is the environment variable with the seed. Processes that a test starts inherit it.
const Variable = "CONNMAP_SEED"

var value = sync.OnceValue(func() uint64 {
	n, err := strconv.ParseUint(os.Getenv(Variable), 10, 64)
	if err != nil {
		n = rand.Uint64N(1e9)
		os.Setenv(Variable, strconv.FormatUint(n, 10))
	}
	return n
})

// New returns a generator seeded from [Variable], or at random if that is no number. It is for
// one goroutine.
func New() *rand.Rand { return rand.New(rand.NewPCG(value(), 0)) }

// Seed returns the seed, for a test that derives others from it, and logs how to repeat it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	t.Logf("%s=%d repeats it", Variable, value())
	return value()
}

// For is New for a test, and logs how to repeat it.
func For(t testing.TB) *rand.Rand {
	t.Helper()
	t.Logf("%s=%d repeats it", Variable, value())
	return New()
}

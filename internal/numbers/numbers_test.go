package numbers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567", -123: "-123", -123456: "-123,456"} {
		assert.Equal(t, want, Thousands(n))
		assert.Equal(t, fmt.Sprint(n), strings.ReplaceAll(want, ",", ""))
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 88_000: "88 kB", 3_200_000: "3.2 MB", 999_499: "999 kB", 999_501: "1 MB", 1 << 63: "9.22 EB"} {
		assert.Equal(t, want, Bytes(n), n)
	}
}

func TestCount(t *testing.T) {
	assert.Equal(t, "0 countries", Count(0, "country", "countries"))
	assert.Equal(t, "1 country", Count(1, "country", "countries"))
	assert.Equal(t, "12 countries", Count(12, "country", "countries"))
}

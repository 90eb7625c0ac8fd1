package unpack

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// zeros packs n zeros.
func zeros(tb testing.TB, format string, n int64) []byte {
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if format == "xz" {
		var err error
		w, err = xz.NewWriter(&b)
		require.NoError(tb, err)
	}
	_, err := io.CopyN(w, zero{}, n)
	require.NoError(tb, err)
	require.NoError(tb, w.Close())
	return b.Bytes()
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestBombs: little that would become much is an error long before it has.
func TestBombs(t *testing.T) {
	for _, format := range []string{"gzip", "xz"} {
		t.Run(format, func(t *testing.T) {
			bomb := zeros(t, format, 100<<20)
			r, err := Reader(bytes.NewReader(bomb), 1<<40)
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, r)
			assert.ErrorIs(t, err, ErrTooLarge)
			assert.ErrorContains(t, err, "the "+format+" data unpack to more than 100 times their size, more than any such file has")
			assert.LessOrEqual(t, n, Free+MaxRatio*int64(len(bomb)))
			t.Logf("%d bytes that hold %d were given up after %d", len(bomb), 100<<20, n)

			// What is small may be of one kind only.
			r, err = Reader(bytes.NewReader(zeros(t, format, Free)), 1<<40)
			require.NoError(t, err)
			n, err = io.Copy(io.Discard, r)
			require.NoError(t, err)
			assert.EqualValues(t, Free, n)
		})
	}
	for _, format := range []string{"plain", "gzip", "xz"} {
		b := pack(t, format, "123456789")
		for max, want := range map[int64]error{8: ErrTooLarge, 9: nil, 10: nil} {
			r, err := Reader(bytes.NewReader(b), max)
			require.NoError(t, err)
			_, err = io.ReadAll(r)
			assert.ErrorIs(t, err, want, "%s of 9 bytes, of which %d may be", format, max)
		}
	}
}

func TestAll(t *testing.T) {
	for _, size := range []int64{0, 3, 9, 100} {
		b, err := All(bytes.NewReader([]byte("123456789")), size, 9)
		require.NoError(t, err)
		assert.Equal(t, "123456789", string(b))
		_, err = All(bytes.NewReader([]byte("123456789")), size, 8)
		assert.ErrorIs(t, err, ErrTooLarge)
	}
}

// xzFile makes streams of empty blocks that want a dictionary.
func xzFile(dictionary byte, blocks int) []byte {
	le := binary.LittleEndian
	b := append([]byte(xzMagic), 0, 0)
	b = le.AppendUint32(b, crc32.ChecksumIEEE(b[6:8]))
	header := []byte{2, 0, xzFilter, 1, dictionary, 0, 0, 0}
	header = le.AppendUint32(header, crc32.ChecksumIEEE(header))
	for range blocks {
		b = append(append(b, header...), 0, 0, 0, 0) // the end of LZMA2, and padding
	}
	index := []byte{0}
	index = binary.AppendUvarint(index, uint64(blocks))
	for range blocks {
		index = append(index, byte(len(header)+1), 0)
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	b = append(b, index...)
	footer := le.AppendUint32(nil, uint32(len(index)/4-1))
	footer = append(footer, 0, 0)
	b = le.AppendUint32(b, crc32.ChecksumIEEE(footer))
	return append(append(b, footer...), xzFooter...)
}

// TestDictionaries: no block makes a dictionary of gigabytes, nor many all together.
func TestDictionaries(t *testing.T) {
	for _, tt := range []struct {
		name       string
		dictionary byte
		blocks     int
		want       string
	}{
		{"xz -9", 28, 1, ""},
		{"128 MiB", 30, 1, "dictionary of 134217728 bytes"},
		{"4 GiB", 40, 1, "dictionary of 4294967295 bytes"},
		{"more than there is", 41, 1, "structure"},
		{"many", 28, 100_000, "blocks of the xz data are far smaller than their dictionaries"},
		{"many small ones", 0, 10_000, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := xzFile(tt.dictionary, tt.blocks)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := unpacked(b)
			runtime.ReadMemStats(&after)
			assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(freeDictionaries+MaxDictionary+64<<20), "bytes that were allocated")
			if tt.want != "" {
				assert.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			assert.Empty(t, got)
		})
	}
}

// TestXZStreams reads what other programs write: several streams, with zeros between them.
func TestXZStreams(t *testing.T) {
	one, two := pack(t, "xz", "one\n"), pack(t, "xz", "two\n")
	both := append(append(bytes.Clone(one), make([]byte, 8)...), two...)
	got, err := unpacked(both)
	require.NoError(t, err)
	assert.Equal(t, "one\ntwo\n", got)
	_, err = unpacked(append(bytes.Clone(one), 0, 0))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = unpacked(append(bytes.Clone(one), "junk"...))
	assert.ErrorContains(t, err, "the xz data")
	for i := range one {
		bad := bytes.Clone(one)
		bad[i] ^= 0x40
		if got, err := unpacked(bad); err == nil && i > 5 {
			t.Errorf("a changed byte %d is not noticed: %q", i, got)
		}
	}
}

// FuzzXZ compares with the reader of the module that unpacks LZMA2.
func FuzzXZ(f *testing.F) {
	f.Add(pack(f, "xz", "content\n"))
	f.Add(xzFile(0, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 6 || string(b[:6]) != xzMagic {
			return
		}
		r, err := Reader(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if err != nil {
			return
		}
		other, err := xz.NewReader(bytes.NewReader(b))
		require.NoError(t, err)
		want, err := io.ReadAll(other)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

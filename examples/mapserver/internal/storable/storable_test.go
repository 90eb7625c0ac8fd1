package storable

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// perl has Perl write a file with one of the functions of Storable.
func perl(t *testing.T, function, data string) []byte {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl")
	}
	name := filepath.Join(t.TempDir(), "x.dat")
	out, err := exec.Command("perl", "-MStorable=store,nstore,lock_store", "-e", "use utf8; my $d = "+data+"; "+function+`($d, $ARGV[0]) or die`, name).CombinedOutput()
	if strings.Contains(string(out), "Can't locate Storable") {
		t.Skip("this perl has no Storable")
	}
	require.NoError(t, err, string(out))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

func TestReadWhatPerlWrites(t *testing.T) {
	tests := []struct {
		name, data string
		want       any
	}{
		{"hash", `{a => 1, b => -128, c => 127, d => 128}`, map[string]any{"a": int64(1), "b": int64(-128), "c": int64(127), "d": int64(128)}},
		{"empty", `{}`, map[string]any{}},
		{"array", `[1, "x", undef, [2]]`, []any{int64(1), "x", nil, []any{int64(2)}}},
		{"scalar", `\ "text"`, "text"},
		{"references", `[\ "r", \\ 3]`, []any{"r", int64(3)}},
		{"a long text", `["y" x 300]`, []any{strings.Repeat("y", 300)}},
		{"UTF-8", `{"München" => "Zürich ☃", x => "☃" x 100}`, map[string]any{"München": "Zürich ☃", "x": strings.Repeat("☃", 100)}},
		{"shared", `do { my $s = [7]; [$s, $s, {k => $s}] }`, []any{[]any{int64(7)}, []any{int64(7)}, map[string]any{"k": []any{int64(7)}}}},
		{"itself", `do { my $s = {n => 1}; $s->{me} = $s; $s }`, map[string]any{"n": int64(1), "me": nil}},
		{"objects", `[bless({a => 1}, "One::Class"), bless([2], "One::Class"), bless({b => 3}, "N" x 200)]`,
			[]any{map[string]any{"a": int64(1)}, []any{int64(2)}, map[string]any{"b": int64(3)}}},
		{"a version", `[v1.2.3]`, []any{"\x01\x02\x03"}},
	}
	for _, tt := range tests {
		for _, function := range []string{"store", "nstore", "lock_store"} {
			t.Run(tt.name+" "+function, func(t *testing.T) {
				got, err := Read(perl(t, function, tt.data))
				require.NoError(t, err)
				assert.Equal(t, tt.want, got)
			})
		}
	}
	// Numbers that the network's order has as text.
	for _, function := range []string{"store", "nstore"} {
		got, err := Read(perl(t, function, `[300, -70000, 2**40, 1.5, -2.5e-7, 18446744073709551615]`))
		require.NoError(t, err)
		for i, want := range []float64{300, -70000, 1 << 40, 1.5, -2.5e-7, 1 << 64} {
			f, ok := number(got.([]any)[i])
			assert.True(t, ok)
			assert.Equal(t, want, f, "%s %d", function, i)
		}
	}
	_, err := Read(perl(t, "store", `[qr/x/]`))
	assert.ErrorContains(t, err, "a regular expression")
}

// TestReadFixtures: what Perl has written, without Perl.
func TestReadFixtures(t *testing.T) {
	want := map[string]any{"history": map[string]any{"48.85,2.35": int64(7), "-22.91,-43.17": int64(1200), "35.68,139.69": int64(1)}, "saved": 1700000000.5, "who": "Zoë"}
	for _, name := range []string{"native.dat", "network.dat"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		got, err := Read(b)
		require.NoError(t, err)
		m := got.(map[string]any)
		saved, ok := number(m["saved"])
		require.True(t, ok)
		m["saved"] = saved
		assert.Equal(t, want, m, name)
		counts, _, err := Counts(got)
		require.NoError(t, err)
		assert.Equal(t, []Count{{-22.91, -43.17, 1200}, {35.68, 139.69, 1}, {48.85, 2.35, 7}}, counts)
	}
}

// machine writes the header of a file and an array of an integer, a floating point number
// and a text, as another machine would.
func machine(order binary.ByteOrder, name string, minor byte) []byte {
	b := append([]byte("pst0\x04"), minor, byte(len(name)))
	b = append(b, name...)
	b = append(b, 4, byte(len(name)), byte(len(name)))
	if minor >= 2 {
		b = append(b, 8)
	}
	put := func(size int, v uint64) {
		var raw [8]byte
		if size == 4 {
			order.PutUint32(raw[:], uint32(v))
		} else {
			order.PutUint64(raw[:], v)
		}
		b = append(b, raw[:size]...)
	}
	b = append(b, sxArray)
	put(4, 3)
	b = append(b, sxInteger)
	put(len(name), uint64(1<<64-5))
	b = append(b, sxDouble)
	put(8, math.Float64bits(2.5))
	b = append(b, sxLScalar)
	put(4, 2)
	return append(b, "hi"...)
}

func TestReadOtherMachines(t *testing.T) {
	for name, order := range map[string]binary.ByteOrder{
		"1234": binary.LittleEndian, "12345678": binary.LittleEndian, "4321": binary.BigEndian, "87654321": binary.BigEndian,
	} {
		for _, minor := range []byte{0, 2, 11, 12} {
			got, err := Read(machine(order, name, minor))
			require.NoError(t, err, name)
			assert.Equal(t, []any{int64(-5), 2.5, "hi"}, got, name)
		}
	}
}

// TestReadTruth: booleans, which Perl has since 5.36.
func TestReadTruth(t *testing.T) {
	got, err := Read([]byte("pst0\x05\x0c\x02\x00\x00\x00\x04\x22\x23\x0f\x10"))
	require.NoError(t, err)
	assert.Equal(t, []any{true, false, true, false}, got)
}

// TestReadLies: a file that is cut or claims what is not there gives an error, and takes no
// more memory than its bytes vouch for.
func TestReadLies(t *testing.T) {
	whole := machine(binary.LittleEndian, "12345678", 11)
	for n := range whole {
		_, err := Read(whole[:n])
		assert.Error(t, err, "cut at %d", n)
	}
	net := func(s string) []byte { return []byte("pst0\x05\x0b" + s) }
	const huge = "\x7f\xff\xff\xff"
	deep := strings.Repeat("\x04", 1000) + "\x05"
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "does not begin with pst0"},
		{"another file", []byte("SQLite format 3"), "does not begin with pst0"},
		{"an older one", []byte("perl-store\x00\x00"), "does not begin with pst0"},
		{"a later format", []byte("pst0\x06\x00"), "format 3"},
		{"a later minor format", []byte("pst0\x05\x63"), "format 2.99"},
		{"a byte order", []byte("pst0\x04\x0b\x044312\x04\x04\x04\x08"), "byte order"},
		{"an int of 8", []byte("pst0\x04\x0b\x0812345678\x08\x08\x08\x08\x05"), "lengths of 8 bytes"},
		{"a long double", []byte("pst0\x04\x0b\x0812345678\x04\x08\x08\x10\x07"), "of 16 bytes"},
		{"an array of 2^31", net("\x02" + huge), "ends too early"},
		{"a hash of 2^31", net("\x03" + huge), "ends too early"},
		{"a text of 2^31", net("\x01" + huge), "ends too early"},
		{"a key of 2^31", net("\x03\x00\x00\x00\x01\x05" + huge), "ends too early"},
		{"a class of 2^31", net("\x11\xff" + huge), "ends too early"},
		{"a negative length", net("\x02\xff\xff\xff\xff"), "a length of -1"},
		{"an item that is not there", net("\x02\x00\x00\x00\x02\x00\x00\x00\x00\x09\x05"), "refers to item 9 of 1"},
		{"too deep", net(deep), "more than 100 levels"},
		{"arrays in arrays", net(strings.Repeat("\x02\x00\x00\x00\xff", 60) + strings.Repeat("\x05", 255)), "ends too early"},
		{"too many items", net("\x02\x00\x2d\xc6\xc0" + strings.Repeat("\x05", 3_000_000)), "more than 2000000 items"},
		{"a hook", net("\x13"), "in a way of its own"},
		{"code", net("\x1a"), "a piece of program"},
		{"unknown", net("\x77"), "unknown type 119"},
		{"too large", make([]byte, MaxBytes+1), "more than 64 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := Read(tt.file)
			runtime.ReadMemStats(&after)
			assert.ErrorContains(t, err, tt.want)
			assert.Nil(t, got)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+128*len(tt.file)), "with what growing left behind")
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"native.dat", "network.dat"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(machine(binary.BigEndian, "4321", 0))
	f.Add([]byte("pst0\x05\x0b\x19\x00\x00\x00\x00\x01\x17\x02\xc3\xa9\x01\x00\x00\x00\x02\xc3\xa9"))
	f.Add([]byte("pst0\x05\x0b\x02\x00\x00\x00\x03\x04\x11\x01A\x03\x00\x00\x00\x00\x12\x00\x0a\x01x\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Read(b)
		if err != nil {
			if tree != nil {
				t.Fatal("a tree and an error")
			}
			return
		}
		again, err := Read(bytes.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		first, skipped, err := Counts(tree)
		second, skippedAgain, errAgain := Counts(again)
		if (err == nil) != (errAgain == nil) || skipped != skippedAgain || len(first) != len(second) {
			t.Fatal("not the same a second time")
		}
		for i, c := range first {
			if c != second[i] || !(math.Abs(c.Lat) <= 90 && math.Abs(c.Lon) <= 180) || c.Count < 1 {
				t.Fatalf("%v, %v", c, second[i])
			}
		}
	})
}

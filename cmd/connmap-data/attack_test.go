package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/terminal"
)

// TestTrickle: a server that only keeps the connection up is given up.
func TestTrickle(t *testing.T) {
	s, to := full(t), newTool(t)
	to.network.stall = 300 * time.Millisecond
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		tagged(w, file)
		for r.Context().Err() == nil {
			w.Write([]byte{0})
			http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
		return true
	})
	require.Error(t, to.update(s, "iptoasn"))
	// On a machine that is busy nothing at all may come in time.
	assert.Regexp(t, "(less than 1.02 kB a second|no data for too long); tried 4 times", to.err.String())
}

// TestTotalTime: a download that does not end is given up, and goes on the next time.
func TestTotalTime(t *testing.T) {
	s, to := full(t), newTool(t)
	to.network.maxTime = 300 * time.Millisecond
	half := len(s.files[asnPath]) / 2
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		tagged(w, file)
		w.Header().Set("Content-Length", fmt.Sprint(len(file)))
		w.Write(file[:half])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	require.Error(t, to.update(s, "iptoasn"))
	assert.Contains(t, to.err.String(), "not done in time; the next update continues from there")
	s.behave(nil)
	to.network.maxTime = time.Hour
	before := s.bytes(asnPath)
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	assert.Equal(t, len(s.files[asnPath])-half, s.bytes(asnPath)-before)
}

// TestAlwaysAnew: a server cannot have a file sent again and again without end.
func TestAlwaysAnew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sends func(try int) int // bytes
		want  string
		total int // bytes at most
	}{
		{"as far as before", func(int) int { return 3 << 19 }, "tried 4 times", 4 * 3 << 19},
		{"further each time", func(try int) int { return try * 9 << 17 }, "larger than 5.24 MB", 10<<20 + 5<<20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			for i := range to.sets {
				to.sets[i].limit = 5 << 20
			}
			n := 0
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				n++
				w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
				w.Header().Set("Content-Length", fmt.Sprint(5<<20))
				w.Write(make([]byte, tt.sends(n)))
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			require.Error(t, to.update(s, "iptoasn"))
			assert.Contains(t, to.err.String(), tt.want)
			assert.LessOrEqual(t, s.bytes(asnPath), tt.total)
		})
	}
}

// TestWrongRanges: a server that sends other parts than those asked for is not asked without
// end, and no file is made of what does not belong together.
func TestWrongRanges(t *testing.T) {
	file := []byte(delegated("apnic", 40_000, 40_000))
	half := len(file) / 2
	require.Greater(t, half, progressStep)
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string // empty: the file
	}{
		{"from the beginning", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(file)-1, len(file)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(file)
		}, "tried 4 times"},
		{"without saying which", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusPartialContent)
			w.Write(file[half:])
		}, "tried 4 times"},
		{"none", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, "tried 4 times"},
		{"the rest of another version", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, len(file)-1, len(file)))
			w.Header().Set("ETag", `"other"`)
			w.WriteHeader(http.StatusPartialContent)
			w.Write(bytes.ReplaceAll(file[half:], []byte("|ZZ|"), []byte("|YY|")))
		}, "the server's file has changed; tried 4 times"},
		{"all", func(w http.ResponseWriter) { w.Write(file) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			s.files[apnicPath] = file
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.URL.Path != apnicPath {
					return false // there is no MD5
				}
				if r.Header.Get("Range") == "" {
					return cut(w, r, file)
				}
				tt.answer(w)
				return true
			})
			err := to.update(s, "rir-apnic")
			if tt.want == "" {
				require.NoError(t, err, to.err.String())
				assert.Equal(t, string(file), to.read(t, "delegated-apnic-extended-latest"))
				return
			}
			require.Error(t, err)
			assert.Contains(t, to.err.String(), tt.want)
			assert.LessOrEqual(t, len(s.seen[apnicPath]), 4)
			assert.NotContains(t, to.files(t), "delegated-apnic-extended-latest")
		})
	}
}

// TestRedirects: nobody sends the program to servers that are not the data set's.
func TestRedirects(t *testing.T) {
	other := serve(t)
	other.files["/moved"] = pack(t, ip2asn(1000))
	for _, tt := range []struct{ name, from, to, want string }{
		{"to http", "", "http://iptoasn.com/moved", "redirected from https to http: refused"},
		{"to another host", "", "https://example.com/moved", `redirected to "https://example.com", which is not a server of this data set: refused`},
		{"to another port", "", "https://iptoasn.com:8443/moved", "which is not a server of this data set: refused"},
		{"to an address", "", "https://127.0.0.1/moved", "which is not a server of this data set: refused"},
		{"to a file", "", "file:///etc/passwd", "which is not a server of this data set: refused"},
		{"to its own host", "", "https://iptoasn.com/moved", ""},
		{"to its own path", "", "/moved", ""},
		{"of a mirror to another", "mirror", other.URL + "/moved", "which is not a server of this data set: refused"},
		{"of a mirror to another port by https", "mirror", strings.Replace(other.URL, "http:", "https:", 1) + "/moved", "which is not a server of this data set: refused"},
		{"of a mirror to itself", "mirror", "/moved", ""},
		{"with a command for the terminal", "", "https://x\x1b]0;x\x07.example/", "trying again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := serve(t), newTool(t)
			s.files["/moved"] = pack(t, ip2asn(1000))
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.URL.Path == "/moved" {
					return false
				}
				w.Header().Set("Location", tt.to)
				w.WriteHeader(http.StatusFound)
				return true
			})
			args := []string{"update", "-data", to.dir, "iptoasn"}
			if tt.from != "" {
				args = append(args, "-from", s.URL)
			} else {
				to.network.client = func() *http.Client { return &http.Client{Transport: home{s}} }
			}
			err := to.run(t.Context(), args)
			if tt.want == "" {
				require.NoError(t, err, to.err.String())
				return
			}
			require.Error(t, err)
			assert.Contains(t, to.err.String(), tt.want)
			assert.NotContains(t, to.err.String(), "\x1b")
		})
	}
}

// TestStatusLine: what a server says stands in messages, but not for long, and commands no
// terminal.
func TestStatusLine(t *testing.T) {
	evil := "\x1b]0;" + strings.Repeat("evil ", 1000) + "\x07\u202e"
	for _, code := range []int{200, 403, 418, 503} {
		s, to := full(t), newTool(t)
		s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			conn, _, err := http.NewResponseController(w.(counter).ResponseWriter).Hijack()
			if !assert.NoError(t, err) {
				return true
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 4\r\nETag: %s\r\n\r\n\x1b[2J", code, evil, evil)
			return true
		})
		require.Error(t, to.update(s, "iptoasn"))
		for line := range strings.Lines(to.err.String()) {
			assert.Equal(t, strings.TrimSuffix(line, "\n"), terminal.Mask(strings.TrimSuffix(line, "\n"), false))
			assert.Less(t, len(line), terminal.Reply+200, line)
		}
	}
}

// TestPartsGo: what a failed try has left goes, unless the next one can go on from it.
func TestPartsGo(t *testing.T) {
	s, to := full(t), newTool(t)
	name := filepath.Join(to.dir, "ip2asn-combined.tsv.gz")
	require.NoError(t, to.update(s, "dbip-city"))
	left := func() []string {
		var names []string
		for _, f := range to.files(t) {
			if f != "dbip-city-lite.csv.gz" && f != "dbip-city-lite.csv.gz.meta" {
				names = append(names, f)
			}
		}
		return names
	}
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte("abc")) // of nobody knows what
		panic(http.ErrAbortHandler)
	})
	require.Error(t, to.update(s, "iptoasn"))
	assert.Empty(t, left(), "nothing can go on from a part without a tag")

	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		return r.URL.Path == asnPath && cut(w, r, file)
	})
	require.Error(t, to.update(s, "iptoasn"))
	assert.ElementsMatch(t, []string{"ip2asn-combined.tsv.gz.part", "ip2asn-combined.tsv.gz.meta"}, left())
	require.NoError(t, os.Chtimes(name+".part", time.Time{}, today.Add(-6*day)))
	require.NoError(t, to.update(s, "dbip-city"))
	assert.Contains(t, left(), "ip2asn-combined.tsv.gz.part")
	for _, f := range []string{".new", ".meta.new"} {
		require.NoError(t, os.WriteFile(name+f, []byte("x"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, ".connmap-data-1"), nil, 0o600))
	require.NoError(t, os.Chtimes(name+".part", time.Time{}, today.Add(-8*day)))
	require.NoError(t, to.update(s, "dbip-city"))
	assert.Empty(t, left(), "also of data sets that were not asked for")

	require.NoError(t, os.WriteFile(name+".part", []byte("x"), 0o600))
	require.NoError(t, to.update(s, "dbip-city"))
	assert.Empty(t, left(), "nobody knows of which file it is a part")
}

// TestBombs: what unpacks to more than it may is not used.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	line := []byte(strings.Repeat("198.0.0.0\t198.0.0.255\t64496\tUS\tEXAMPLE\n", 1<<14))
	for range 200 {
		z.Write(line)
	}
	require.NoError(t, z.Close())
	s, to := serve(t), newTool(t)
	s.files[asnPath] = b.Bytes()
	require.Error(t, to.update(s, "iptoasn"))
	assert.Contains(t, to.err.String(), "the downloaded file is not used: ")
	assert.Contains(t, to.err.String(), "unpack to more than 100 times their size")
	assert.Empty(t, to.files(t))

	b.Reset()
	z = gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "GeoLite2-ASN.mmdb", Mode: 0o644, Size: 200 << 20, Typeflag: tar.TypeReg}))
	for range 200 {
		w.Write(make([]byte, 1<<20))
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	archive := filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(archive, b.Bytes(), 0o600))
	assert.ErrorContains(t, extract(archive, archive+".new"), "unpack to more than 100 times their size")
}

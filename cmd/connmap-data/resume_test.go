package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResume(t *testing.T) {
	s, to := full(t), newTool(t)
	whole := len(s.files[dbipPath])
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		return r.Header.Get("Range") == "" && cut(w, r, file)
	})
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.err.String(), "the connection broke; trying again")
	assert.Contains(t, to.err.String(), "continuing at ")
	assert.Equal(t, string(s.files[dbipPath]), to.read(t, "dbip-city-lite.csv.gz"))
	assert.Equal(t, []string{"", fmt.Sprintf("bytes=%d-", whole/2)}, s.seen[dbipPath])
	assert.Equal(t, whole, s.bytes(dbipPath), "bytes sent in all")
}

// A run that was killed leaves a part for the next one.
func TestResumeNextRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *site, to *tool)
		again  bool // from the start
	}{
		{"same", func(*site, *tool) {}, false},
		{"file changed", func(s *site, to *tool) { s.files[dbipPath] = pack(t, dbip(2500)) }, true},
		{"Range ignored", func(s *site, to *tool) {
			s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
				w.Write(file)
				return true
			})
		}, true},
		{"record lost", func(s *site, to *tool) { os.Remove(filepath.Join(to.dir, "dbip-city-lite.csv.gz.meta")) }, true},
		{"part lost", func(s *site, to *tool) { os.Remove(filepath.Join(to.dir, "dbip-city-lite.csv.gz.part")) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			ctx, cancel := context.WithCancel(t.Context())
			s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
				tagged(w, file)
				w.Header().Set("Content-Length", fmt.Sprint(len(file)))
				w.Write(file[:len(file)/2])
				http.NewResponseController(w).Flush()
				for {
					if info, err := os.Stat(filepath.Join(to.dir, "dbip-city-lite.csv.gz.part")); err == nil && info.Size() == int64(len(file)/2) {
						break
					}
					time.Sleep(time.Millisecond)
				}
				cancel()
				<-r.Context().Done()
				return true
			})
			half := int64(len(s.files[dbipPath]) / 2)
			err := to.run(ctx, []string{"update", "-data", to.dir, "-from", s.URL, "dbip-city"})
			assert.EqualError(t, err, "interrupted; the next update continues from here")
			info, err := os.Stat(filepath.Join(to.dir, "dbip-city-lite.csv.gz.part"))
			require.NoError(t, err)
			assert.Equal(t, half, info.Size())

			before := s.bytes(dbipPath)
			s.behave(nil)
			tt.change(s, to)
			require.NoError(t, to.update(s, "dbip-city"), to.err.String())
			file := s.files[dbipPath]
			assert.Equal(t, string(file), to.read(t, "dbip-city-lite.csv.gz"))
			want := len(file) - int(half)
			if tt.again {
				want = len(file)
			}
			assert.Equal(t, want, s.bytes(dbipPath)-before)
		})
	}
}

// A part that was complete when the run ended is asked about, not sent again.
func TestResumeComplete(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.update(s, "dbip-city"))
	name := filepath.Join(to.dir, "dbip-city-lite.csv.gz")
	rec := readRecord(name)
	rec.Part, rec.File = rec.File, nil
	require.NoError(t, writeRecord(name, rec))
	require.NoError(t, os.Rename(name, name+".part"))
	require.NoError(t, os.Chtimes(name+".part", time.Time{}, today))
	sent := s.bytes(dbipPath)
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Less(t, s.bytes(dbipPath)-sent, 100)
	assert.Equal(t, string(s.files[dbipPath]), to.read(t, "dbip-city-lite.csv.gz"))
}

func TestRetry(t *testing.T) {
	s, to := full(t), newTool(t)
	tries := 0
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if tries++; tries > 2 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.err.String(), "503 Service Unavailable; trying again")
}

// Slow is not broken, as long as something comes.
func TestSlow(t *testing.T) {
	s, to := full(t), newTool(t)
	to.network.stall = 2 * time.Second
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		for part := range 10 {
			w.Write(file[part*len(file)/10 : (part+1)*len(file)/10])
			http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
		return true
	})
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())

	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		http.NewResponseController(w).Flush() // the header alone
		<-r.Context().Done()
		return true
	})
	to.network.stall = 50 * time.Millisecond
	require.Error(t, to.update(s, "iptoasn"))
	assert.Contains(t, to.err.String(), "no data for too long; tried 4 times")
}

// home takes requests for any site to a test server.
type home struct{ s *site }

func (h home) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(h.s.URL, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{"GeoLite2-ASN_20261124/COPYRIGHT.txt": "x", "GeoLite2-ASN_20261124/GeoLite2-ASN.mmdb": dbip(10)} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		io.WriteString(w, text)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

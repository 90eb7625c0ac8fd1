package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUpdateByName: the month in a file's name is its date, whenever a mirror has copied it.
func TestUpdateByName(t *testing.T) {
	const file = "dbip-city-lite.csv.gz"
	s, to := serve(t), newTool(t)
	s.files[dbipOld] = pack(t, dbip(50)) // modified in November, says the server
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.out.String(), "50 rows of 2026-10-01, ")
	s.files[dbipPath] = pack(t, dbip(60))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.out.String(), "60 rows of 2026-11-01, ")

	november := s.files[dbipPath]
	delete(s.files, dbipPath)
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.out.String(), "dbip-city: the file there is of 2026-10-01, the one in use of 2026-11-01: the newer stays in use; ")
	assert.Equal(t, string(november), to.read(t, file))

	// Versions before this rule recorded when the server's file was modified.
	name := filepath.Join(to.dir, file)
	rec := readRecord(name)
	rec.File.Date = today
	require.NoError(t, writeRecord(name, rec))
	s.files[dbipPath] = pack(t, dbip(70))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Contains(t, to.out.String(), "70 rows of 2026-11-01, ")
}

// TestUpdateByModified: without another date it is that of the server. A file without any date is
// used.
func TestUpdateByModified(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	before := to.read(t, "ip2asn-combined.tsv.gz")
	modified := today.Add(-30 * day).Format(http.TimeFormat)
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		if modified != "" {
			w.Header().Set("Last-Modified", modified)
		}
		w.Write(file)
		return true
	})
	s.files[asnPath] = pack(t, ip2asn(900))
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	assert.Contains(t, to.out.String(), "iptoasn: the file there is of 2026-10-26, the one in use of 2026-11-25: ")
	assert.Equal(t, before, to.read(t, "ip2asn-combined.tsv.gz"))
	modified = ""
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	assert.Contains(t, to.out.String(), "900 rows of unknown date")

	// Of a file that somebody put there the time says only when.
	modified = today.Add(-30 * day).Format(http.TimeFormat)
	name := filepath.Join(to.dir, "ip2asn-combined.tsv.gz")
	require.NoError(t, os.Remove(name+".meta"))
	require.NoError(t, os.Chtimes(name, time.Time{}, today))
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	assert.Contains(t, to.out.String(), "900 rows of 2026-10-26, ")
}

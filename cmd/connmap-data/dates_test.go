package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

// TestFutureDates: what a file says of the future is no date, so that it keeps no correct file out.
func TestFutureDates(t *testing.T) {
	const file = "delegated-apnic-extended-latest"
	header := func(serial, end string) []byte {
		text := strings.Replace(delegated("apnic", 100, 100), "2|apnic|20261124|", "2|apnic|"+serial+"|", 1)
		text = strings.Replace(text, "asn|*|1|", "asn|*|0|", 1)
		return []byte(strings.Replace(text, "|20261124|+0000", "|"+end+"|+0000", 1))
	}
	const remark = "; its date 2099-01-28 is in the future, so it does not count"
	for _, tt := range []struct{ name, serial, end, want string }{
		{"both", "20990128", "20990128", "2026-11-25" + remark},
		{"the better one", "20261123", "20990128", "2026-11-23" + remark},
		{"the other", "20990128", "20261123", "2026-11-23"},
		{"tomorrow", "20261126", "20261126", "2026-11-26"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			s.files[apnicPath] = header(tt.serial, tt.end)
			require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
			date, hint, _ := strings.Cut(tt.want, "; ")
			assert.Contains(t, to.out.String(), "100 rows of "+date+", ")
			if hint != "" {
				assert.Contains(t, to.out.String(), "; "+hint+"\n")
			}
			for _, own := range []bool{false, true} {
				if own {
					require.NoError(t, os.Remove(filepath.Join(to.dir, file+".meta")))
				}
				st := to.states(t)[file]
				require.NotNil(t, st.Date)
				assert.Equal(t, date, dateOf(*st.Date))
				assert.Equal(t, hint, st.Hint)
			}
		})
	}

	// A file that an older version of the program took for that of 2099.
	s, to := full(t), newTool(t)
	s.files[apnicPath] = header("20990128", "20990128")
	require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
	name := filepath.Join(to.dir, file)
	rec := readRecord(name)
	rec.File.Date = time.Date(2099, 1, 28, 0, 0, 0, 0, time.UTC)
	rec.File.ModTime, rec.File.Remarks = rec.File.Date, nil
	require.NoError(t, os.Chtimes(name, time.Time{}, rec.File.Date))
	require.NoError(t, writeRecord(name, rec))
	st := to.states(t)[file]
	assert.Nil(t, st.Date)
	assert.Equal(t, remark[2:], st.Hint)
	assert.Equal(t, s.URL+apnicPath, st.Source)
	s.files[apnicPath] = header("20261124", "20261124") // on the day before that on which it was published
	require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
	assert.Contains(t, to.out.String(), "100 rows of 2026-11-24, ")
	assert.Empty(t, to.states(t)[file].Hint)
	s.files[apnicPath] = header("20990128", "20990128")
	require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
	s.files[apnicPath] = header("20261124", "20261124")
	require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
	assert.Contains(t, to.out.String(), "100 rows of 2026-11-24, ")

	// The server's clock is wrong.
	s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
		w.Header().Set("Last-Modified", "Wed, 28 Jan 2099 00:00:00 GMT")
		w.Write(file)
		return true
	})
	require.NoError(t, to.update(s, "iptoasn"), to.err.String())
	assert.Contains(t, to.out.String(), "1,000 rows of unknown date, ")
	assert.Contains(t, to.out.String(), remark+"\n")
	assert.Equal(t, remark[2:], to.states(t)["ip2asn-combined.tsv.gz"].Hint)
}

// states returns what status says of each file.
func (to *tool) states(t *testing.T) map[string]state {
	t.Helper()
	all, err := to.status(to.dir)
	require.NoError(t, err)
	states := map[string]state{}
	for _, st := range all {
		states[st.File] = st
	}
	return states
}

// TestStatusOld: status says which tables are old, also if the server has nothing newer.
func TestStatusOld(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.update(s), to.err.String())
	name := filepath.Join(to.dir, "ip2asn-combined.tsv.gz")
	rec := readRecord(name)
	rec.File.Remarks = []string{"1 row is left out"}
	require.NoError(t, writeRecord(name, rec))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(to.dir, name), []byte(text), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(to.dir, name), time.Time{}, today))
	}
	write("mine.csv", "16777217,16777470,-33.6629,151.3986\n")
	write("notes.txt", "Dear diary\n")
	newest := today.Add(-time.Hour) // the date of iptoasn's file
	for _, tt := range []struct {
		name      string
		now       time.Time
		asn, mine string
	}{
		{"just not", newest.Add(maxAge), "1 row is left out", ""},
		{"old", today.Add(maxAge + 1), "1 row is left out; old: connmap-data update iptoasn", "old: connmap-data update downloads newer tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to.now = func() time.Time { return tt.now }
			// The server has just said that there is nothing newer.
			for _, s := range to.sets {
				name := filepath.Join(to.dir, s.file)
				if rec := readRecord(name); rec.File != nil {
					rec.File.Checked = tt.now
					require.NoError(t, writeRecord(name, rec))
				}
			}
			got := to.states(t)
			assert.Equal(t, "old: connmap-data update dbip-city", got["dbip-city-lite.csv.gz"].Hint)
			assert.Equal(t, "old: connmap-data update rir-apnic", got["delegated-apnic-extended-latest"].Hint)
			assert.Equal(t, tt.asn, got["ip2asn-combined.tsv.gz"].Hint)
			assert.Equal(t, tt.mine, got["mine.csv"].Hint)
			assert.Contains(t, got["notes.txt"].Hint, "not recognised: the first line is ")
		})
	}
	to.out.Reset()
	require.NoError(t, to.run(t.Context(), []string{"status", "-data", to.dir}))
	require.ErrorIs(t, to.run(t.Context(), []string{"status", "-h"}), flag.ErrHelp)
	assert.Contains(t, to.err.String(), fmt.Sprintf("older than %d days", maxAge/day))
	source, err := os.ReadFile("../../examples/mapserver/internal/mapview/status.go")
	require.NoError(t, err)
	assert.Contains(t, string(source), fmt.Sprintf("maxTableAge = %d * 24 * time.Hour", maxAge/day), "the map has another limit")
	assert.Regexp(t, `(?m)^\(yours\) +mine.csv .* connmap CSV; old: connmap-data update downloads newer tables$`, to.out.String())
}

package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
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

func TestUpdate(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.update(s), to.err.String())
	assert.Contains(t, to.out.String(), "dbip-city: 2,000 rows of 2026-11-01, ")
	assert.Contains(t, to.out.String(), "rir-ripencc: 100 rows of 2026-11-24, ")
	assert.Contains(t, to.err.String(), "dbip-city: downloading "+s.URL+dbipPath+", ")
	assert.Equal(t, string(s.files[dbipPath]), to.read(t, "dbip-city-lite.csv.gz"))
	for _, name := range to.files(t) {
		assert.NotContains(t, name, ".part")
		assert.NotContains(t, name, ".new")
	}

	sent := s.bytes(dbipPath)
	require.NoError(t, to.update(s), to.err.String())
	assert.Contains(t, to.out.String(), "dbip-city: up to date, 2,000 rows of 2026-11-01\n")
	assert.Equal(t, sent, s.bytes(dbipPath), "unchanged, but sent again")

	// What somebody changed is fetched anew.
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "dbip-city-lite.csv.gz"), []byte("x"), 0o644))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Equal(t, string(s.files[dbipPath]), to.read(t, "dbip-city-lite.csv.gz"))
}

// TestUpdateDamaged: a file that was damaged without a change of its size and time is mended.
func TestUpdateDamaged(t *testing.T) {
	for set, file := range map[string]string{"dbip-city": "dbip-city-lite.csv.gz", "rir-apnic": "delegated-apnic-extended-latest"} {
		t.Run(set, func(t *testing.T) {
			s, to := full(t), newTool(t)
			require.NoError(t, to.update(s, set), to.err.String())
			good := to.read(t, file)
			name := filepath.Join(to.dir, file)
			info, err := os.Stat(name)
			require.NoError(t, err)
			bad := []byte(good)
			copy(bad[len(bad)/2:], make([]byte, 200))
			damage := func() {
				require.NoError(t, os.WriteFile(name, bad, 0o644))
				require.NoError(t, os.Chtimes(name, time.Time{}, info.ModTime()))
			}
			damage()
			require.NoError(t, to.update(s, set), to.err.String())
			assert.Contains(t, to.err.String(), set+": the file in use is damaged; downloading it again\n")
			assert.NotContains(t, to.out.String(), "up to date")
			assert.Equal(t, good, to.read(t, file))
			require.NoError(t, to.update(s, set), to.err.String())
			assert.Contains(t, to.out.String(), "up to date")

			// A failure is not called up to date, now or later.
			damage()
			s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.Header.Get("If-None-Match") == "" {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			})
			require.Error(t, to.update(s, set))
			require.Error(t, to.update(s, set))
			s.behave(nil)
			require.NoError(t, to.update(s, set), to.err.String())
			assert.Equal(t, good, to.read(t, file))
		})
	}
}

// TestOneByte: a byte that has changed is seen, also where the file has no checksum of its own and the
// change looks like another value. A copy that has lost its time is the same file.
func TestOneByte(t *testing.T) {
	s, to := full(t), newTool(t)
	for set, file := range map[string]string{"dbip-city": "dbip-city-lite.csv.gz", "rir-apnic": "delegated-apnic-extended-latest"} {
		require.NoError(t, to.update(s, set), to.err.String())
		name := filepath.Join(to.dir, file)
		info, err := os.Stat(name)
		require.NoError(t, err)
		good, before := to.read(t, file), to.states(t)[file]
		assert.Empty(t, before.Hint)

		require.NoError(t, os.Chtimes(name, time.Time{}, info.ModTime().Add(90*24*time.Hour)))
		assert.Equal(t, before, to.states(t)[file])
		require.NoError(t, to.update(s, set))
		assert.Contains(t, to.out.String(), "up to date")

		bad := []byte(good)
		if i := strings.LastIndex(good, "20"); set == "rir-apnic" {
			bad[i] = '1'
		} else {
			bad[len(bad)/2] ^= 1
		}
		require.NoError(t, os.WriteFile(name, bad, 0o644))
		require.NoError(t, os.Chtimes(name, time.Time{}, info.ModTime()))
		assert.Regexp(t, "damaged: it has changed since it was downloaded|invalid checksum", to.states(t)[file].Hint)
		require.NoError(t, to.update(s, set), to.err.String())
		assert.Contains(t, to.err.String(), "the file in use is damaged; downloading it again")
		assert.Equal(t, good, to.read(t, file))

		// A record of an older version has no checksum.
		rec := readRecord(name)
		require.NotNil(t, rec.File)
		rec.File.SHA256 = ""
		require.NoError(t, writeRecord(name, rec))
		assert.Equal(t, before.Rows, to.states(t)[file].Rows)
		require.NoError(t, to.update(s, set))
		assert.Contains(t, to.out.String(), "up to date")
	}
}

func TestUpdatePreviousMonth(t *testing.T) {
	s, to := serve(t), newTool(t)
	s.files[dbipOld] = pack(t, dbip(50))
	require.NoError(t, to.update(s, "dbip-city"), to.err.String())
	assert.Len(t, s.seen[dbipPath], 1)
	require.NoError(t, to.update(s, "dbip-city"))
	assert.Contains(t, to.out.String(), "up to date")
	s.files[dbipPath] = pack(t, dbip(60))
	require.NoError(t, to.update(s, "dbip-city"))
	assert.Contains(t, to.out.String(), "60 rows")
}

// Whatever goes wrong, the old file stays as it is and the others are updated.
func TestUpdateFailures(t *testing.T) {
	send := func(contentType string, status int, body string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
	}
	data := func(body []byte) func(http.ResponseWriter, *http.Request, []byte) bool {
		return send("application/gzip", 200, string(body))
	}
	good := pack(t, dbip(100))
	bad := func(change func(string) string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return data(pack(t, change(dbip(2000))))
	}
	tests := []struct {
		name string
		odd  func(w http.ResponseWriter, r *http.Request, file []byte) bool
		want string
	}{
		{"404", send("text/html", 404, "<html>"), "not found (404)"},
		{"403", send("text/html", 403, "<html>"), "the server refuses the request: 403 Forbidden"},
		{"503 for ever", send("text/html", 503, "<html>"), "503 Service Unavailable; tried 4 times"},
		{"web page", send("text/html; charset=utf-8", 200, "<html>"), "a web page, not data: is there a login or captive portal?"},
		{"web page in disguise", send("application/gzip", 200, "<!DOCTYPE html><html>"), "a web page, not data"},
		{"empty", data(nil), "the file is empty"},
		{"gzip cut off", data(good[:len(good)-20]), "gzip"},
		{"gzip damaged", data(append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)/2)...)), "gzip"},
		{"fewer rows", data(good), "has 100 rows, less than half of the 2,000 in use"},
		{"hardly a row", data(pack(t, dbip(2))), "has 2 rows: expected at least 3"},
		{"another data set", data(pack(t, ip2asn(5000))), "the content is of the kind iptoasn TSV: expected DB-IP city CSV"},
		{"no data set", data(pack(t, strings.Repeat("Dear Sir or Madam,\n", 5000))), "the content is not recognised: expected DB-IP city CSV"},
		{"bad lines", bad(func(s string) string { return strings.ReplaceAll(s, "198.0.", "198.0x.") }), "the content is not recognised"},
		{"lines without columns", bad(func(s string) string { return strings.ReplaceAll(s, ",EU,DE,", ",") }), "the content is not recognised"},
		{"bad coordinates", bad(func(s string) string { return strings.ReplaceAll(s, ",52.5,", ",152.5,") }), "the content is not recognised"},
		{"cut in a line", bad(func(s string) string { return s[:len(s)-9] }), "truncated in the last row"},
		{"announced too large", func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			w.Header().Set("Content-Length", "99999999999")
			return true
		}, "larger than 1.07 GB, the limit of this data set"},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, "redirected 10 times: refused"},
		{"always cut", func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("abc"))
			panic(http.ErrAbortHandler)
		}, "the connection broke; tried 4 times"},
		{"204", send("", 204, ""), "the server answers 204 No Content"},
		{"a part that was not asked for", send("", 206, "x"), "the server answers 206"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			require.NoError(t, to.update(s), to.err.String())
			before, meta := to.read(t, "dbip-city-lite.csv.gz"), to.read(t, "dbip-city-lite.csv.gz.meta")
			to.now = func() time.Time { return today.AddDate(0, 0, 1) }
			s.files[asnPath] = pack(t, ip2asn(1200))
			s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
				return strings.HasPrefix(r.URL.Path, "/free/") && tt.odd(w, r, file)
			})
			assert.EqualError(t, to.update(s), "1 of 7 data sets not updated: dbip-city")
			assert.Contains(t, to.err.String(), tt.want)
			assert.Contains(t, to.err.String(), "; the old file stays in use\n")
			assert.Contains(t, to.out.String(), "iptoasn: 1,200 rows")
			assert.Equal(t, before, to.read(t, "dbip-city-lite.csv.gz"))
			if tt.name != "always cut" {
				assert.NotContains(t, to.files(t), "dbip-city-lite.csv.gz.part")
				assert.JSONEq(t, meta, to.read(t, "dbip-city-lite.csv.gz.meta"))
			}
			s.behave(nil)
			require.NoError(t, to.update(s), to.err.String())
		})
	}
}

func TestUpdateLimit(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.update(s, "dbip-city"))
	before := to.read(t, "dbip-city-lite.csv.gz")
	for i := range to.sets {
		to.sets[i].limit = 100_000
	}
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		for range 1000 {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				break
			}
		}
		return true
	})
	require.Error(t, to.update(s, "dbip-city"))
	assert.Contains(t, to.err.String(), "larger than 100 kB")
	assert.Equal(t, before, to.read(t, "dbip-city-lite.csv.gz"))
	assert.NotContains(t, to.files(t), "dbip-city-lite.csv.gz.part")
}

func TestUpdateRegistries(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"cut off", delegated("apnic", 80, 100), "cut off: 80 of 100 records"},
		{"of another registry", delegated("arin", 100, 100), "of the kind delegations of arin: expected delegations of apnic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			require.NoError(t, to.update(s, "rir"))
			before := to.read(t, "delegated-apnic-extended-latest")
			s.files[apnicPath] = []byte(tt.file)
			assert.EqualError(t, to.update(s, "rir"), "1 of 5 data sets not updated: rir-apnic")
			assert.Contains(t, to.err.String(), tt.want)
			assert.Equal(t, before, to.read(t, "delegated-apnic-extended-latest"))
		})
	}
}

// TestUpdateOlder: a mirror that is behind does not replace a file by an older one, whether that
// was downloaded or put there.
func TestUpdateOlder(t *testing.T) {
	older := []byte(strings.ReplaceAll(delegated("apnic", 100, 100), "|20261124|", "|20200101|"))
	const file = "delegated-apnic-extended-latest"
	for _, own := range []bool{false, true} {
		s, to := full(t), newTool(t)
		require.NoError(t, to.update(s, "rir-apnic"))
		target := filepath.Join(to.dir, file)
		if own {
			require.NoError(t, os.Remove(target+".meta"))
		}
		before := to.read(t, file)
		s.files[apnicPath] = older
		require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
		assert.Contains(t, to.out.String(), "rir-apnic: the file there is of 2020-01-01, the one in use of 2026-11-24: the newer stays in use; remove "+target)
		assert.Equal(t, before, to.read(t, file))
		assert.NotContains(t, to.files(t), file+".part")

		// A file that is cut off is no better than an older one.
		require.NoError(t, os.WriteFile(target, []byte(delegated("apnic", 80, 100)), 0o644))
		require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
		assert.Equal(t, string(older), to.read(t, file))
		s.files[apnicPath] = []byte(before)
		require.NoError(t, to.update(s, "rir-apnic"), to.err.String())
		assert.Equal(t, before, to.read(t, file))
	}
}

// cut sends the headers of the whole file and the first half of what is wanted.
func cut(w http.ResponseWriter, r *http.Request, file []byte) bool {
	tagged(w, file)
	w.Header().Set("Content-Length", fmt.Sprint(len(file)))
	w.Write(file[:len(file)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func TestMaxMind(t *testing.T) {
	const path = "/geoip/databases/GeoLite2-ASN/download?suffix=tar.gz"
	s, to := serve(t), newTool(t)
	to.network.client = func() *http.Client { return &http.Client{Transport: home{s}} }
	// The content is not what this test is about.
	for i := range to.sets {
		if to.sets[i].name == "maxmind-asn" {
			to.sets[i].kinds = []string{"DB-IP city CSV"}
		}
	}
	s.files[path] = archive(t)
	s.files[path+".sha256"] = fmt.Appendf(nil, "%x  GeoLite2-ASN_20261124.tar.gz\n", sha256.Sum256(s.files[path]))
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if user, password, _ := r.BasicAuth(); user != "123456" || password != "geheim" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	update := func() error {
		to.out.Reset()
		to.err.Reset()
		return to.run(t.Context(), []string{"update", "-data", to.dir, "maxmind-asn"})
	}
	require.Error(t, update())
	assert.Contains(t, to.err.String(), "set MAXMIND_ACCOUNT_ID and MAXMIND_LICENSE_KEY in the environment")
	to.env["MAXMIND_ACCOUNT_ID"], to.env["MAXMIND_LICENSE_KEY"] = "123456", "falsch"
	require.Error(t, update())
	assert.Contains(t, to.err.String(), "the server refuses the request: 401 Unauthorized")
	assert.NotContains(t, to.err.String(), "falsch")
	to.env["MAXMIND_LICENSE_KEY"] = "geheim"
	require.NoError(t, update(), to.err.String())
	assert.Contains(t, to.err.String(), "the GeoLite2 EULA applies")
	assert.Equal(t, dbip(10), to.read(t, "GeoLite2-ASN.mmdb"))
	require.NoError(t, update(), to.err.String())
	assert.Contains(t, to.out.String(), "up to date")
	assert.ElementsMatch(t, []string{"GeoLite2-ASN.mmdb", "GeoLite2-ASN.mmdb.meta"}, to.files(t))
	assert.NotContains(t, to.err.String()+to.out.String()+to.read(t, "GeoLite2-ASN.mmdb.meta"), "geheim")

	s.files[path] = append(s.files[path], 0)
	require.Error(t, update())
	assert.Contains(t, to.err.String(), "the downloaded file is not used: its SHA-256 is ")
	assert.Equal(t, dbip(10), to.read(t, "GeoLite2-ASN.mmdb"))
}

func TestIPinfo(t *testing.T) {
	s, to := serve(t), newTool(t)
	to.network.client = func() *http.Client { return &http.Client{Transport: home{s}} }
	text := "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n" +
		strings.Repeat("192.0.2.0/24,Germany,DE,Europe,EU,AS64496,\"Example, Inc.\",example.com\n198.51.100.7,,,,,,,\n", 5)
	s.files["/moved"] = pack(t, text)
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		assert.NotContains(t, r.Header.Get("Referer"), "geheim")
		if r.URL.Path == "/moved" {
			return false
		}
		if r.URL.Query().Get("token") == "geheim" {
			http.Redirect(w, r, "https://dl.assets.ipinfo.io/moved", http.StatusFound)
		} else {
			w.WriteHeader(http.StatusForbidden)
		}
		return true
	})
	to.env["IPINFO_TOKEN"] = "geheim"
	require.NoError(t, to.run(t.Context(), []string{"update", "-data", to.dir, "ipinfo-lite"}), to.err.String())
	assert.Contains(t, to.out.String(), "10 rows")
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.Redirect(w, r, "http://files.example.com/moved", http.StatusFound)
		return true
	})
	require.Error(t, to.run(t.Context(), []string{"update", "-data", to.dir, "ipinfo-lite"}))
	assert.Contains(t, to.err.String(), "redirected from https to http: refused")
	s.Close()
	require.Error(t, to.run(t.Context(), []string{"update", "-data", to.dir, "ipinfo-lite"}))
	assert.Contains(t, to.err.String(), "connection refused; tried 4 times")
	assert.NotContains(t, to.err.String()+to.out.String()+to.read(t, "ipinfo_lite.csv.gz.meta"), "geheim")

	// A mirror gets no key.
	mirror := serve(t)
	to.network.client = newClient
	mirror.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		assert.NotContains(t, r.URL.RawQuery, "token")
		assert.Empty(t, r.Header.Get("Authorization"))
		return false
	})
	require.Error(t, to.update(mirror, "ipinfo-lite", "maxmind-city"))
	assert.Contains(t, to.err.String(), "not found (404)")
}

func TestOptIn(t *testing.T) {
	s, to := serve(t), newTool(t)
	s.files["/datasets/as-organizations/20261001.as-org2info.txt.gz"] = pack(t, "# format:org_id|changed|org_name|country|source\nEX|20200101|Example|US|ARIN\n"+
		"# format:aut|changed|aut_name|org_id|opaque_id|source\n"+strings.Repeat("64496|20240618|EXAMPLE|EX|e5_ARIN|ARIN\n", 4))
	s.files["/ripe/dbase/split/ripe.db.aut-num.gz"] = pack(t, "# The RIPE database\n\n"+strings.Repeat("aut-num:        AS64496\nas-name:        EXAMPLE\ndescr:          Gr\xfc\xdfe\n\n", 3))
	s.files["/lacnic/dbase/lacnic.db.gz"] = pack(t, strings.Repeat("aut-num: 64500\nowner: Example\n\n", 3))
	require.Error(t, to.update(s, "caida-orgs", "autnum"))
	assert.Contains(t, to.out.String(), "caida-orgs: 4 rows")
	assert.Contains(t, to.out.String(), "autnum-ripencc: 3 rows")
	assert.Contains(t, to.out.String(), "autnum-lacnic: 3 rows")
	assert.Contains(t, to.err.String(), "caida-orgs: CAIDA's Acceptable Use Agreement")
	assert.Contains(t, to.err.String(), "autnum-ripencc: RIPE NCC's terms and conditions apply")
	for _, s := range small() {
		if !s.optIn {
			assert.Empty(t, s.terms, "%s is in the default, but has terms to agree to", s.name)
		}
	}
}

func TestStatus(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, to.run(t.Context(), []string{"status", "-data", to.dir}))
	assert.Contains(t, to.out.String(), "missing: connmap-data update dbip-city")
	require.NoError(t, to.update(s, "dbip-city", "rir-apnic"))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "mine.csv"), []byte("16777217,16777470,-33.6629,151.3986\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "notes.txt"), []byte("Dear diary\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "\x1b[2Jnotes.txt"), []byte("network,geoname_id\n\x1b[2J\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "table.new"), []byte("192.0.2.0,192.0.2.255,AU\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "history.sqlite"), []byte("SQLite format 3\x00"), 0o644))
	own := map[string]string{
		"places.txt": "connmap places 1\n1.5\t2.5\t9\n48.85\t2.35\t100\n", "places.txt.before-import-1": "connmap places 1\n",
		"gone.csv.meta": "{}\n", "gone.csv.gz.part": "\x1f\x8b", "history.sqlite-wal": "x", "empty.lock": "",
	}
	for name, text := range own {
		require.NoError(t, os.WriteFile(filepath.Join(to.dir, name), []byte(text), 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "old.csv.gz"), pack(t, dbip(9))[:300], 0o644))
	// What is called good is opened.
	for name, text := range map[string]string{
		"orgs-none.txt":     "# format:org_id|changed|org_name|country|source\nA|1|A|US|ARIN\n",
		"orgs-cut.txt":      "# format:aut|changed|aut_name|org_id|opaque_id|source\n64496|1|A|A||ARIN\n64497|1",
		"rir-none.txt":      "2|arin|20260101|1|19700101|20260101|+0000\n",
		"rir-cut.txt":       "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\narin|US|ipv4|9.0",
		"autnum-none.txt":   "as-block: AS1 - AS2\n",
		"rir-no-header.txt": "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(to.dir, name), []byte(text), 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "line\nend\tx.csv"), []byte("Dear diary\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(to.dir, "cut.db"), []byte("aut-num: AS64496\nremarks: "+strings.Repeat("x", 17<<20)+"\n\naut-num: AS64497\n"), 0o644))
	to.now = func() time.Time { return today.AddDate(0, 0, 10) }
	// What must not go to the network cannot.
	to.network.client = func() *http.Client { t.Fatal("status goes to the network"); return nil }
	was := http.DefaultTransport
	http.DefaultTransport = home{}
	defer func() { http.DefaultTransport = was }()

	to.out.Reset()
	require.NoError(t, to.run(t.Context(), []string{"status", "-data", to.dir, "-json"}))
	var states []state
	require.NoError(t, json.Unmarshal(to.out.Bytes(), &states))
	got := map[string]state{}
	for _, st := range states {
		got[st.File] = st
	}
	db := got["dbip-city-lite.csv.gz"]
	assert.Equal(t, "CC BY 4.0", db.Licence)
	assert.Equal(t, s.URL+dbipPath, db.Source)
	assert.EqualValues(t, 2000, db.Rows)
	assert.Equal(t, "update due", db.Hint, "there should be the file of December")
	assert.Equal(t, "update due", got["delegated-apnic-extended-latest"].Hint)
	assert.Equal(t, "2026-11-24", dateOf(*got["delegated-apnic-extended-latest"].Date))
	assert.Equal(t, "connmap CSV", got["mine.csv"].Kind)
	assert.Equal(t, `not recognised: the first line is "Dear diary"`, got["notes.txt"].Hint)
	assert.Contains(t, got["old.csv.gz"].Hint, "gzip")
	assert.Equal(t, "not read, since connmap's own files have such names: rename it", got["table.new"].Hint)
	assert.Equal(t, "has no AS numbers: the file is cut off or of another kind", got["orgs-none.txt"].Hint)
	assert.Contains(t, got["orgs-cut.txt"].Hint, "it is truncated in its last line")
	assert.Contains(t, got["rir-none.txt"].Hint, "0 of 1 records")
	assert.Contains(t, got["rir-cut.txt"].Hint, "the first being line 2")
	assert.Equal(t, "has no aut-num records: the file is cut off or of another kind", got["autnum-none.txt"].Hint)
	assert.Equal(t, "delegations", got["rir-no-header.txt"].Kind)
	assert.Empty(t, got["rir-no-header.txt"].Hint)
	assert.Contains(t, got["cut.db"].Hint, "the record of AS64496 is cut: ")
	assert.EqualValues(t, 2, got["cut.db"].Rows)
	assert.NotContains(t, got, "history.sqlite")
	for name := range own {
		assert.NotContains(t, got, name)
	}
	assert.True(t, got["ip2asn-combined.tsv.gz"].Missing)

	to.out.Reset()
	require.NoError(t, to.run(t.Context(), []string{"status", "-data", to.dir}))
	assert.Contains(t, to.out.String(), "dbip-city: CC BY 4.0\n  "+s.URL+dbipPath+"\n  IP Geolocation by DB-IP, https://db-ip.com\n")
	assert.NotContains(t, to.out.String(), "\x1b")
	assert.Contains(t, to.out.String(), "\uFFFD[2Jnotes.txt")
	assert.Regexp(t, `(?m)^\(yours\) +line; end x.csv +\S+ +\S+ days +0 +11 B +not recognised: the first line is "Dear diary"$`, to.out.String())

	// Any file that is named.
	require.ErrorContains(t, to.run(t.Context(), []string{"status", filepath.Join(to.dir, "mine.csv"), "nothing"}), "stat nothing: no such file")
	assert.Contains(t, to.out.String(), "mine.csv")
	require.NoError(t, to.run(t.Context(), []string{"status", filepath.Join(to.dir, "mine.csv"), filepath.Join(to.dir, "notes.txt")}))
	assert.Regexp(t, `DATA SET .*\n\(yours\) +\S+mine.csv .* connmap CSV\n\(yours\) +\S+notes.txt .* not recognised: the first line is "Dear diary"\n$`, to.out.String())
	assert.Regexp(t, `rir-apnic +delegated-apnic-extended-latest +2026-11-24 +11 days +100 +\S+ kB +update due`, to.out.String())
}

// TestLongLine: a line of a registry's file that is too long is one bad row.
func TestLongLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	for _, end := range []string{"\n", "\narin|US|ipv4|203.0.113.0|256|20200101|allocated|A\n", ""} {
		text := delegated("arin", 20, 20) + "arin|US|ipv4|203.0.113.0|256|20200101|allocated|" + strings.Repeat("x", 40<<20) + end
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		c, err := inspect(name, unpackedLimit, today)
		require.NoError(t, err)
		assert.EqualValues(t, 20+strings.Count(end, "|")/7, c.rows)
		require.NoError(t, c.open(name))
		require.NotEmpty(t, c.remarks)
		assert.Equal(t, "1 lines ignored, the first being line 25: the line has more than 1048576 bytes", c.remarks[0])
	}
}

// TestCell: every message about a file fits into one cell of one line.
func TestCell(t *testing.T) {
	for s, want := range map[string]string{"": "", "x": "x", "a\nb": "a; b", "a\r\nb\tc": "a; b c", "a\u2028\x1b": "a\uFFFD\uFFFD"} {
		assert.Equal(t, want, cell(s), "%q", s)
	}
}

func TestCompile(t *testing.T) {
	to := newTool(t)
	to.network.client = func() *http.Client { t.Fatal("compile goes to the network"); return nil }
	require.NoError(t, os.MkdirAll(to.dir, 0o755))
	source := filepath.Join(to.dir, "dbip.csv.gz")
	require.NoError(t, os.WriteFile(source, pack(t, dbip(20)), 0o644))
	require.NoError(t, to.run(t.Context(), []string{"compile", source}))
	assert.Regexp(t, `/dbip\.cmgeo: \d+ rows of 20`, to.out.String())
	c, err := inspect(filepath.Join(to.dir, "dbip.cmgeo"), unpackedLimit, today)
	require.NoError(t, err)
	assert.Equal(t, "compiled places", c.kind)
	assert.Positive(t, c.rows)
	require.NoError(t, to.run(t.Context(), []string{"compile", source, "-o", filepath.Join(to.dir, "out")}))
	assert.ErrorContains(t, to.run(t.Context(), []string{"compile", source, "-o", source}), "would replace its source")
	letter := filepath.Join(to.dir, "letter")
	require.NoError(t, os.WriteFile(letter, []byte("dear diary"), 0o644))
	assert.ErrorContains(t, to.run(t.Context(), []string{"compile", source, "-o", letter}), "letter exists and is not a compiled table: name another file, or move it away")
	b, err := os.ReadFile(letter)
	require.NoError(t, err)
	assert.Equal(t, "dear diary", string(b))
	require.NoError(t, to.run(t.Context(), []string{"compile", source, "-o", filepath.Join(to.dir, "out")}), "what it has made it makes anew")
	assert.ErrorContains(t, to.run(t.Context(), []string{"compile"}), "needs one FILE")
	require.NoError(t, os.WriteFile(source, pack(t, dbip(20)+"bad row\n"), 0o644))
	require.NoError(t, to.run(t.Context(), []string{"compile", source}))
	assert.Contains(t, to.err.String(), "1 row is left out: ")
	assert.Error(t, to.run(t.Context(), []string{"compile", "missing"}))
	assert.ElementsMatch(t, []string{"dbip.csv.gz", "dbip.cmgeo", "out", "letter"}, to.files(t))
}

// Only fetch.go can go to the network, and only update calls it.
func TestNoNetwork(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == "fetch.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range parsed.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			assert.NotEqual(t, "net", path, file)
			if file != "update.go" && file != "sources.go" && file != "main.go" {
				assert.NotEqual(t, "net/http", path, file)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "no command given"},
		{"upgrade", `unknown command "upgrade"`},
		{"update nothing", `unknown data set "nothing"; connmap-data -h lists them`},
		{"update -from ftp://example.com", "-from: expected a URL"},
		{"update -data /dev/null -from=", "-from: expected a URL"},
		{"update -key=x", "connmap-data update -h lists the flags"},
		{"status x", "stat x: no such file"},
		{"-h", "flag: help requested"},
		{"update -h", "flag: help requested"},
	} {
		to := newTool(t)
		assert.ErrorContains(t, to.run(t.Context(), strings.Fields(tt.args)), tt.want, tt.args)
	}
	to := newTool(t)
	to.run(t.Context(), []string{"-h"})
	for _, s := range sets() {
		assert.Contains(t, to.err.String(), s.name)
		assert.NotEmpty(t, s.licence+s.attribution+s.about)
	}
}

func TestFolder(t *testing.T) {
	s, to := full(t), newTool(t)
	require.NoError(t, os.WriteFile(to.dir, nil, 0o644))
	assert.ErrorContains(t, to.update(s), "cannot make the data folder: ")
	require.NoError(t, os.Remove(to.dir))
	require.NoError(t, os.Mkdir(to.dir, 0o755))
	lock, err := lockFolder(to.dir)
	require.NoError(t, err)
	assert.ErrorContains(t, to.update(s), "another update is running in ")
	lock.Close()
	assert.NoError(t, to.update(s, "iptoasn"))
}

func TestBar(t *testing.T) {
	b := &bar{name: "autnum-ripencc", total: 123_400_000}
	for _, done := range []int64{0, 1, 60_000_000, 123_400_000, 130_000_000} {
		line := b.line(done, 7*time.Second)
		assert.LessOrEqual(t, len(line), 79, line)
	}
	assert.Equal(t, "autnum-ripencc  [##########..........]  50 % of   123 MB   8.81 MB/s 0:07 left", b.line(61_700_000, 7*time.Second))
}

func FuzzInspectRegistry(f *testing.F) {
	f.Add([]byte(dbip(4)))
	f.Add([]byte(ip2asn(4)))
	f.Add([]byte(delegated("apnic", 4, 4)))
	f.Add([]byte("network,geoname_id,latitude\n192.0.2.0/24,1,2\n"))
	f.Add([]byte("# format:aut|changed\n64496|\n"))
	f.Add([]byte("aut-num: 64496\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _, err := inspectRegistry(bytes.NewReader(text), text[:min(len(text), 64<<10)])
		if lines := int64(bytes.Count(text, []byte("\n"))) + 1; err == nil && c.rows > lines {
			t.Errorf("%q: %d rows in %d lines", text, c.rows, lines)
		}
	})
}

// TestRegistryChecksum: a file of a registry is compared with the MD5 beside it, in either form,
// and used without one only if there is none.
func TestRegistryChecksum(t *testing.T) {
	const path = "/pub/stats/ripencc/delegated-ripencc-extended-latest"
	s, to := serve(t), newTool(t)
	to.network.client = func() *http.Client { return &http.Client{Transport: home{s}} }
	s.files[path] = []byte(delegated("ripencc", 20, 20))
	update := func() error {
		to.out.Reset()
		to.err.Reset()
		require.NoError(t, os.RemoveAll(to.dir))
		return to.run(t.Context(), []string{"update", "-data", to.dir, "rir-ripencc"})
	}
	require.NoError(t, update(), to.err.String())
	sum := md5.Sum(s.files[path])
	for _, text := range []string{"%x  delegated-ripencc-extended-latest\n", "MD5 (delegated-ripencc-extended-latest) = %x\n", "%X"} {
		s.files[path+".md5"] = fmt.Appendf(nil, text, sum)
		require.NoError(t, update(), to.err.String())
	}
	failures := 2
	s.behave(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasSuffix(r.URL.Path, ".md5") {
			assert.Contains(t, r.UserAgent(), "connmap-data/")
			if failures--; failures >= 0 {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
		}
		return false
	})
	require.NoError(t, update(), to.err.String())
	assert.Equal(t, -1, failures, "it is tried as often as the file itself")
	s.behave(nil)
	s.files[path+".md5"] = fmt.Appendf(nil, "%x", md5.Sum(nil))
	require.Error(t, update())
	assert.Contains(t, to.err.String(), "the downloaded file is not used: its MD5 is ")
	for _, text := range []string{"", "notfound\n", "<html>there is none</html>"} {
		s.files[path+".md5"] = []byte(text)
		require.Error(t, update())
		assert.Contains(t, to.err.String(), fmt.Sprintf("delegated-ripencc-extended-latest.md5: expected 32 hexadecimal digits, found %q; there is no earlier file\n", text))
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/connmapgo/connmap/asn/whois"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
	"github.com/connmapgo/connmap/rules"
)

// connmapperl makes a folder as that program leaves it.
func connmapperl(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("connmapperl2rc.beep", "# KeyLabel,Type,Target,Red,Green,Blue,Alpha,ShowText,BeepOnMatch\n\"Pages\",local,443,50,120,250,200,1,0\n\"Links\",peer,6789,120,120,20,200,0,1\n")
	_, err := feed.LoadIdentity(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "server-secret")))
	db, err := raw.OpenConn(filepath.Join(dir, ".connmap-history2.sqlite"), raw.OpenReadWrite|raw.OpenCreate)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteScript(db, `CREATE TABLE detailed_history (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, ip TEXT, port INTEGER,
		local_ip TEXT, local_port INTEGER, programname TEXT, full_lookup TEXT, asn TEXT, orgname TEXT, lat REAL, lon REAL, x INTEGER, y INTEGER, count INTEGER);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
		INSERT INTO detailed_history SELECT i, 1700000000 + i, '8.8.8.' || i, 443, '192.0.2.1', 40000 + i, 'firefox', '', 'AS64496', 'Example', 48.85, 2.35, 477, 170, 2 FROM n;`, nil))
	require.NoError(t, db.Close())
	fixture, err := os.ReadFile(filepath.Join("internal", "storable", "testdata", "native.dat"))
	require.NoError(t, err)
	write(".connmap-history2.dat", string(fixture))
	write("resources/sorted_all-rir-delegations.txt", "2|apnic|20260101|2|19850701|20260101|+1000\napnic|*|asn|*|1|summary\napnic|AU|asn|64496|1|20020801|allocated|A1\napnic|AU|ipv4|8.8.8.0|256|20100301|allocated|A1\n")
	write("resources/20250701.as-org2info.txt", "# format:org_id|changed|org_name|country|source\nORG-A|20200101|Example Networks|AU|APNIC\n# format:aut|changed|aut_name|org_id|opaque_id|source\n64496|20200101|EX|ORG-A|A1_APNIC|APNIC\n")
	write("resources/GeoLite2-ASN-Blocks-IPv4.csv", "network,autonomous_system_number,autonomous_system_organization\n8.8.8.0/24,64496,\"Example, Inc.\"\n")
	write("resources/ipv4.csv", "134744065,134744318,48.85,2.35\n")
	write("resources/apnic.db.aut-num", "aut-num:        AS64496\nas-name:        EXAMPLE-AS\ndescr:          Example Networks\nsource:         APNIC\n\n")
	write("resources/w1000-old.png", "\x89PNG")
	write("resources/beep-07a.wav", "RIFF")
	write("connmapperl-server-ssl.pl", "#!/usr/bin/perl\n")
	write("connmapperl-client-ssl.pl", "#!/usr/bin/perl\n")
	write("ip2asn.pl", "#!/usr/bin/perl\n")
	write("notes\x1b.txt", "mine")
	exec.Command("perl", "-MGDBM_File", "-e", `tie(my %h, "GDBM_File", $ARGV[0], GDBM_WRCREAT, 0644) or die; $h{AS64496} = "Example Networks"; untie %h`, filepath.Join(dir, "resources", "caida_asn_to_name.dbm")).Run()
	return dir
}

// fingerprint is of all names, contents, modes and times in a folder.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, name, info.Mode(), info.ModTime().UnixNano(), info.Size())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(name)
			h.Write(b)
			return err
		}
		return nil
	}))
	return hex.EncodeToString(h.Sum(nil))
}

// contents are those of the files in a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-wal") || strings.HasSuffix(e.Name(), "-shm") {
			continue // of whoever reads a history
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		sum := sha256.Sum256(b)
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all
}

// TestImport: one command takes over all that connmapperl left, into where the server and
// ip2asn look for it, and changes nothing there; a second time it has nothing to do.
func TestImport(t *testing.T) {
	own := ownFolders(t)
	dir := connmapperl(t)
	before := fingerprint(t, dir)
	out, err := ask(t, "import", dir)
	require.NoError(t, err, out)
	assert.Equal(t, before, fingerprint(t, dir))
	assert.Equal(t, 1, strings.Count(out, "server-cert.pem"), "told once")
	for _, want := range []string{
		"took    connmapperl2rc.beep: 2 rules to " + own + "/connmaprc\n",
		"took    server-cert.pem, server-key.pem: to " + own + "\n",
		"took    .connmap-history2.sqlite: 250 connections to " + own + "/history.sqlite\n",
		"took    .connmap-history2.dat: 3 places to " + own + "/places.txt, press l to load them; 1 number without a place left out\n",
		"took    resources/sorted_all-rir-delegations.txt: delegations to ",
		"took    resources/20250701.as-org2info.txt: organisations to ",
		"took    resources/GeoLite2-ASN-Blocks-IPv4.csv: AS numbers of addresses to ",
		"took    resources/ipv4.csv: places to ",
		"took    resources/apnic.db.aut-num: aut-num records to ",
		"left    resources/w1000-old.png: connmap draws its own map\n",
		"left    resources/beep-07a.wav: connmap has its own tone; -sound ",
		"left    connmapperl-server-ssl.pl: mapserver replaces it\n",
		"left    connmapperl-client-ssl.pl: connmap-agent replaces it\n",
		"left    ip2asn.pl: ip2asn replaces it\n",
		`left    "notes\x1b.txt": it is not a file of connmapperl`,
		"mapserver -password-file FILE",
	} {
		assert.Contains(t, out, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "resources", "caida_asn_to_name.dbm")); err == nil {
		assert.Contains(t, out, "took    resources/caida_asn_to_name.dbm: organisations to ")
	} else {
		t.Log("without a GDBM file, which takes GDBM_File of perl")
	}

	// Its rows have rules, by those that were taken.
	c, err := sqlite.OpenConsole(t.Context(), filepath.Join(own, "history.sqlite"), sqlite.ConsoleOptions{})
	require.NoError(t, err)
	table, err := c.Ask(t.Context(), history.Question{SQL: "SELECT count(*), sum(rule IN ('Pages', 'Links', 'Other')) FROM detailed_history"})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.Equal(t, [][]any{{int64(250), int64(250)}}, table.Rows)

	// All of it is used from then on.
	cfg, err := parse([]string{"-listen", "127.0.0.1:0", "-no-local", "-headless"}, io.Discard)
	require.NoError(t, err)
	cfg.cacheDir = t.TempDir()
	a, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.monitor.Publish()
	st := a.monitor.State()
	n, err := a.monitor.LoadMarks(a.placesFile())
	require.NoError(t, err)
	certificate := a.identity.Certificate()
	a.stop()
	assert.Equal(t, 3, n)
	assert.Empty(t, st.Problems)
	assert.Equal(t, []string{"Pages", "Links", "Other"}, []string{st.Rules[0].Label, st.Rules[1].Label, st.Rules[2].Label})
	theirs, err := feed.LoadIdentity(dir + "/") // makes a secret there, which is of no more use here
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "server-secret")))
	assert.Equal(t, feed.Fingerprint(theirs.Certificate()), feed.Fingerprint(certificate))
	place, ok := a.monitor.Geo[0].Lookup(netip.MustParseAddr("8.8.8.7"))
	assert.True(t, ok)
	assert.Equal(t, 48.85, place.Lat)
	as, ok := a.monitor.ASN[0].Lookup(netip.MustParseAddr("8.8.8.7"))
	assert.True(t, ok)
	assert.Equal(t, "Example, Inc.", as.Org)
	files := whois.Files{Data: own, Cache: t.TempDir()}
	sources, err := files.Open(func(warning string) { t.Error(warning) })
	require.NoError(t, err)
	defer sources.Close()
	r, err := sources.Report(netip.MustParseAddr("8.8.8.7"))
	require.NoError(t, err)
	var report strings.Builder
	require.NoError(t, r.WriteText(&report))
	for _, want := range []string{"apnic", "Example Networks", "AS64496", "48.85", "EXAMPLE-AS"} {
		assert.Contains(t, report.String(), want)
	}

	// Nothing is left to do, and nothing is done.
	ours := contents(t, own)
	out, err = ask(t, "import", dir)
	require.NoError(t, err, out)
	assert.NotContains(t, out, "took ")
	assert.GreaterOrEqual(t, strings.Count(out, " the same already\n"), 7, out)
	assert.Contains(t, out, "history.sqlite has 250 rows already; move it away")
	assert.Contains(t, out, "has all of its 3 places already")
	assert.Equal(t, ours, contents(t, own))
}

// TestImportKeepsOurs: what connmap has is not overwritten without a word and a copy.
func TestImportKeepsOurs(t *testing.T) {
	own := ownFolders(t)
	dir := connmapperl(t)
	require.NoError(t, os.MkdirAll(own, 0o700))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(own, name), []byte(text), 0o600))
	}
	write("connmaprc", "\"Mine\",peer,1,1,2,3,4,0,0\n")
	write("places.txt", "connmap places 1\n1.5\t2.5\t9\n48.85\t2.35\t100\n")
	write("ipv4.csv", "1,2,3,4\n")
	id, err := feed.LoadIdentity(own)
	require.NoError(t, err)
	db, err := sqlite.Open(t.Context(), filepath.Join(own, "history.sqlite"), sqlite.Options{})
	require.NoError(t, err)
	out, err := ask(t, "import", dir)
	assert.ErrorContains(t, err, "1 file could not be imported")
	assert.Contains(t, out, "failed  .connmap-history2.sqlite: ", "somebody uses ours")
	require.NoError(t, db.Close())
	assert.Contains(t, out, "the file it replaces is kept as "+own+"/connmaprc.before-import-")
	assert.Contains(t, out, "the file it replaces is kept as "+own+"/places.txt.before-import-")
	assert.Contains(t, out, "left    resources/ipv4.csv: "+own+"/ipv4.csv exists already and differs")
	assert.Contains(t, out, "left    server-cert.pem, server-key.pem: "+own+" has others already")
	kept, err := filepath.Glob(filepath.Join(own, "*.before-import-*"))
	require.NoError(t, err)
	require.Len(t, kept, 2)
	b, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	assert.Contains(t, string(b), "Mine")
	marks, err := history.LoadMarks(filepath.Join(own, "places.txt"))
	require.NoError(t, err)
	assert.ElementsMatch(t, []history.Mark{{Lat: 1.5, Lon: 2.5, Count: 9}, {Lat: 48.85, Lon: 2.35, Count: 100}, {Lat: -22.91, Lon: -43.17, Count: 1200}, {Lat: 35.68, Lon: 139.69, Count: 1}}, marks)
	again, err := feed.LoadIdentity(own)
	require.NoError(t, err)
	assert.Equal(t, id.Token(), again.Token())

	// Settings of the C program connmap stay, and connmap's own rules are beside them.
	const settings = "location_x 20\nlocation_y 30\n"
	write("connmaprc", settings)
	out, err = ask(t, "import", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "took    connmapperl2rc.beep: 2 rules to "+own+"/rules; "+own+"/connmaprc has settings of the C program connmap and is not changed\n")
	b, err = os.ReadFile(filepath.Join(own, "connmaprc"))
	require.NoError(t, err)
	assert.Equal(t, settings, string(b))
	require.NoError(t, os.Remove(filepath.Join(own, "history.sqlite")))

	// A history without rows is nobody's, and default rules are not edited.
	write("connmaprc", rules.DefaultFile)
	out, err = ask(t, "import", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "took    .connmap-history2.sqlite: 250 connections")
	assert.Contains(t, out, "took    connmapperl2rc.beep: 2 rules to "+own+"/connmaprc\n")
}

// TestImportWhileOpen: connmapperl has its history open, with rows that are in the journal
// only, or has begun to write some. What is whole is taken, and what it does is not disturbed.
func TestImportWhileOpen(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			own := ownFolders(t)
			dir := connmapperl(t)
			db, err := raw.OpenConn(filepath.Join(dir, ".connmap-history2.sqlite"), raw.OpenReadWrite)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			for _, sql := range []string{
				"PRAGMA journal_mode = " + mode, "PRAGMA wal_autocheckpoint = 0", "PRAGMA cache_size = 1", "PRAGMA cache_spill = 1",
				"UPDATE detailed_history SET count = 5", "BEGIN IMMEDIATE", "UPDATE detailed_history SET count = 9, full_lookup = hex(randomblob(2000))",
			} {
				require.NoError(t, sqlitex.ExecuteTransient(db, sql, nil), sql)
			}
			before := fingerprint(t, dir)
			out, err := ask(t, "import", dir)
			require.NoError(t, err, out)
			assert.Equal(t, before, fingerprint(t, dir))
			assert.Contains(t, out, ".connmap-history2.sqlite: 250 connections")
			c, err := sqlite.OpenConsole(t.Context(), filepath.Join(own, "history.sqlite"), sqlite.ConsoleOptions{})
			require.NoError(t, err)
			defer c.Close()
			table, err := c.Ask(t.Context(), history.Question{SQL: "SELECT min(count), max(count) FROM detailed_history"})
			require.NoError(t, err)
			assert.Equal(t, [][]any{{int64(5), int64(5)}}, table.Rows)
			require.NoError(t, sqlitex.ExecuteTransient(db, "COMMIT", nil), "it goes on")
		})
	}
}

// TestImportDamaged: a file that is missing, damaged or odd costs itself only.
func TestImportDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"connmapperl2rc.beep": "1\n2\n3\n4\n5\n", "server-key.pem": "nonsense", ".connmap-history2.sqlite": "no database at all, but some text that is long enough to be one",
		".connmap-history2.dat": "pst0\x05\x0b\x03\x7f\xff\xff\xff", "resources/ipv4.csv": "1,2,3\nx,y\n",
		"resources/20250701.as-org2info.txt":       "# format:org_id|changed|org_name|country|source\nORG|cut\n",
		"resources/sorted_all-rir-delegations.txt": "nothing of the registries\n",
		"resources/apnic.db.aut-num":               "\x00\x01\x02",
		"resources/GeoLite2-ASN-Blocks-IPv4.csv":   "network,autonomous_system_number,autonomous_system_organization\n8.8.8.0/99,x\n",
	} {
		t.Run(name, func(t *testing.T) {
			ownFolders(t)
			dir := connmapperl(t)
			require.NoError(t, os.Remove(filepath.Join(dir, "resources", "w1000-old.png")))
			require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "resources", "w1000-old.txt")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "resources", "notes.txt"), []byte("nothing\n"), 0o644))
			good, err := ask(t, "import", "-config", t.TempDir(), "-data", t.TempDir(), dir)
			assert.ErrorContains(t, err, "1 file could not")
			assert.Contains(t, good, "failed  resources/w1000-old.txt: not a regular file\n")
			assert.Contains(t, good, "left    resources/notes.txt: connmap does not know this kind of table\n")
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			before := fingerprint(t, dir)
			out, err := ask(t, "import", dir)
			assert.ErrorContains(t, err, "2 files could not")
			assert.Regexp(t, `(?m)^failed  .*`+name+`: [^/]`, out)
			assert.NotContains(t, out, "line 4", "the first three of many are enough")
			assert.Equal(t, strings.Count(good, "took ")-1, strings.Count(out, "took "), out)
			assert.Equal(t, before, fingerprint(t, dir))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
			_, err = ask(t, "import", dir)
			assert.ErrorContains(t, err, "1 file could not", "what is missing is no mistake")
		})
	}
}

// TestImportDamagedHistory: what is said names the file that is damaged, and no copy of it;
// what it says to do gives back the rows that are whole.
func TestImportDamagedHistory(t *testing.T) {
	own := ownFolders(t)
	dir := connmapperl(t)
	original := filepath.Join(dir, ".connmap-history2.sqlite")
	f, err := os.OpenFile(original, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("nonsense", 512)), 4*4096)
	require.NoError(t, errors.Join(err, f.Close()))
	before := fingerprint(t, dir)
	var out, errs bytes.Buffer
	err = run(t.Context(), []string{"import", dir}, &out, &errs)
	assert.ErrorContains(t, err, "1 file could not be imported")
	command := "sqlite3 " + original + " .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 NEW"
	assert.Contains(t, out.String(), "failed  .connmap-history2.sqlite: it is damaged, and nothing was imported; save the rows before the first and after the last damaged page with `"+command+"`, put NEW in its place, and import again\n")
	for _, no := range []string{"import-", "a fresh one", "corrupt"} {
		assert.NotContains(t, out.String()+errs.String(), no)
	}
	assert.Equal(t, before, fingerprint(t, dir))
	assert.NoFileExists(t, filepath.Join(own, "history.sqlite"))
	left, err := filepath.Glob(filepath.Join(own, "import-*"))
	require.NoError(t, err)
	assert.Empty(t, left)

	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("no program sqlite3")
	}
	saved := filepath.Join(t.TempDir(), "saved")
	b, err := exec.Command("sh", "-c", strings.ReplaceAll(command, "NEW", saved)).CombinedOutput()
	require.NoError(t, err, string(b))
	require.NoError(t, os.Rename(saved, original))
	again, err := ask(t, "import", dir)
	require.NoError(t, err, again)
	assert.Regexp(t, `took    \.connmap-history2\.sqlite: [1-9]\d* connections to `, again)
}

// TestImportOtherNumbers: a Storable file with numbers that are no counts of places is
// refused with the reason.
func TestImportOtherNumbers(t *testing.T) {
	own := ownFolders(t)
	dir := connmapperl(t)
	const array = "pst0\x05\x0b\x02\x00\x00\x00\x03\x08\x81\x08\x82\x08\x83" // [1, 2, 3]
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".connmap-history2.dat"), []byte(array), 0o644))
	out, err := ask(t, "import", dir)
	assert.ErrorContains(t, err, "1 file could not be imported")
	assert.Contains(t, out, "failed  .connmap-history2.dat: no counts of places are found in it, only other numbers\n")
	assert.NoFileExists(t, filepath.Join(own, "places.txt"))

	// Nor is a folder a history, whatever there is already.
	name := filepath.Join(dir, ".connmap-history2.sqlite")
	require.NoError(t, os.Remove(name))
	require.NoError(t, os.Mkdir(name, 0o700))
	out, err = ask(t, "import", dir)
	assert.Error(t, err)
	assert.Contains(t, out, "failed  .connmap-history2.sqlite: not a regular file\n")
}

// TestImportNothing: a folder of something else is an error.
func TestImportNothing(t *testing.T) {
	ownFolders(t)
	empty := t.TempDir()
	_, err := ask(t, "import", empty)
	assert.ErrorContains(t, err, "has no files of connmapperl")
	for _, args := range [][]string{{"import"}, {"import", empty, empty}, {"import", filepath.Join(empty, "missing")}, {"import", os.Args[0]}, {"import", "-config", empty, empty}} {
		_, err := ask(t, args...)
		assert.Error(t, err, args)
	}
}

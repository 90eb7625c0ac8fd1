package asn

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/layout"
	"github.com/connmapgo/connmap/internal/ranges"
)

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	require.NoError(t, w.Close())
	return b.String()
}

// smallMMDB is a MaxMind DB file with AS64496 for all addresses, so small that the names of
// its fields are among its first bytes.
const smallMMDB = "\x00\x00\x00\x11\x00\x00\x00\x11" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\xe2\x58autonomous_system_number\xc2\xfb\xf0\x5d\x01autonomous_system_organization\x47Example" +
	"\xab\xcd\xefMaxMind.com\xe6" +
	"\x5bbinary_format_major_version\xa1\x02" +
	"\x4bbuild_epoch\x04\x02\x65\x53\xf1\x00" +
	"\x4ddatabase_type\x4cGeoLite2-ASN" +
	"\x4aip_version\xa1\x04" +
	"\x4anode_count\xc1\x01" +
	"\x4brecord_size\xa1\x20"

func TestSmallMMDB(t *testing.T) {
	for _, content := range []string{smallMMDB, gzipped(t, smallMMDB)} {
		name := write(t, filepath.Join(t.TempDir(), "x"), content)
		kind, err := Recognise(name)
		require.NoError(t, err)
		assert.Equal(t, TableFile, kind)
		db, err := Open(name)
		require.NoError(t, err)
		as, ok := db.Lookup(netip.MustParseAddr("198.51.100.7"))
		assert.True(t, ok)
		assert.Equal(t, AS{64496, "Example"}, as)
	}
}

func TestRecognise(t *testing.T) {
	for text, want := range map[string]Kind{
		blocks:                                       TableFile,
		"\ufeff" + blocks:                            TableFile,
		"1.1.1.0\t1.1.1.0\t13335\tUS\tC\n":           TableFile,
		form.Magic:                                   TableFile,
		"# comment\n2|arin|1|1|1|1|0\n":              DelegationFile,
		"arin|*|asn|*|1|summary\n":                   DelegationFile,
		"arin|US|asn|64496|1||assigned\n":            DelegationFile,
		"ripencc|DE|ipv6|2001:db8::|32||allocated\n": DelegationFile,
		"# name: AS Org\n# format: aut|changed|\n":   OrgFile,
		"# format:org_id|changed|\n":                 OrgFile,
		`{"changed":"","organizationId":"X","type":"Organization"}`: OrgFile,
		"\xcf\x9a\x57\x13": OrgFile,
		"% header\n\n# more\n\nas-block: AS1 - AS2\n": AutNumFile,
		"\n\nAUT-NUM: AS64496\n":                      AutNumFile,
		"ASHandle: AS64496\n":                         AutNumFile,
		"Subject: inetnum\n":                          Unknown,
		"aut-num\n":                                   Unknown,
		"{}\n":                                        Unknown,
		"1.0.0.0,1.0.0.255,AU\n":                      Unknown,
		"SQLite format 3\x00":                         Unknown,
		"a|b|ipv4|x|1||allocated\n":                   Unknown,
		"# nothing else\n":                            Unknown,
		"junk\xab\xcd\xefMaxMind.comjunk\x00":         Unknown,
	} {
		for _, content := range []string{text, gzipped(t, text)} {
			got, err := Recognise(write(t, filepath.Join(t.TempDir(), "x"), content))
			require.NoError(t, err)
			assert.Equal(t, want, got, "%q", text)
		}
	}
	_, err := Recognise(filepath.Join(t.TempDir(), "none"))
	assert.ErrorContains(t, err, "asn: ")
	_, err = Recognise(t.TempDir())
	assert.ErrorContains(t, err, "is a folder")
	assert.Equal(t, "delegations", DelegationFile.String())
	assert.Equal(t, "unknown", Unknown.String())
}

func TestRecogniseReal(t *testing.T) {
	for name, want := range map[string]Kind{
		"rir/delegated-afrinic-extended.gz":     DelegationFile,
		"rir/delegated-apnic-extended.gz":       DelegationFile,
		"rir/delegated-arin-extended.gz":        DelegationFile,
		"rir/delegated-ripencc-extended.gz":     DelegationFile,
		"asn/GeoLite2-ASN-Blocks-IPv4.csv.gz":   TableFile,
		"asn/GeoLite2-ASN-20190514.mmdb.gz":     TableFile,
		"asn/ip2asn-v4-excerpt-2020.tsv":        TableFile,
		"asn/ipfire_asn_to_name.dbm.gz":         OrgFile,
		"org/SYNTHETIC.as-org2info.txt.gz":      OrgFile,
		"org/SYNTHETIC.as-org2info.jsonl.xz":    OrgFile,
		"rpsl/ripe.test.gz":                     AutNumFile,
		"rpsl/apnic.test.gz":                    AutNumFile,
		"rpsl/lacnic.test":                      AutNumFile,
		"rpsl/arin_asn_net_only.txt":            AutNumFile,
		"geo/GeoLite2-ASN-Test.mmdb":            TableFile,
		"geo/GeoIP2-City-Test.mmdb":             Unknown,
		"geo/GeoLite2-Country-20191217.mmdb.gz": Unknown,
		"geo/tor-geoip-20260625.txt.gz":         Unknown,
		"geo/cities15000.zip":                   Unknown,
		"synth/city4.csv.xz":                    Unknown,
	} {
		got, err := Recognise(data(t, name))
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
}

// TestRecogniseLarge: a large file that is no table is not read into memory, and an archive with a
// table is one.
func TestRecogniseLarge(t *testing.T) {
	name := write(t, filepath.Join(t.TempDir(), "x"), "SQLite format 3\x00")
	require.NoError(t, os.Truncate(name, 900<<20))
	assert.Less(t, allocated(func() {
		kind, err := Recognise(name)
		require.NoError(t, err)
		assert.Equal(t, Unknown, kind)
	}), uint64(2<<20))

	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("GeoLite2-ASN.mmdb")
	require.NoError(t, err)
	w.Write([]byte(smallMMDB))
	require.NoError(t, z.Close())
	kind, err := Recognise(write(t, name, b.String()))
	require.NoError(t, err)
	assert.Equal(t, TableFile, kind)
}

// FuzzRecognise checks that what is opened as a table is recognised as one.
func FuzzRecognise(f *testing.F) {
	f.Add([]byte(blocks))
	f.Add([]byte("2|arin|1|1|1|1|0\n"))
	f.Add([]byte("1.1.1.0\t1.1.1.0\t13335\tUS\tC\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := read(bufio.NewReaderSize(bytes.NewReader(text), 64<<10)); err == nil {
			kind, err := layout.Recognise(&ranges.File{Reader: bufio.NewReaderSize(bytes.NewReader(text), 64<<10)})
			require.NoError(t, err)
			assert.True(t, kind.Networks)
		}
	})
}

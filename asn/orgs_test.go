package asn

import (
	"bufio"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/layout"
)

const (
	orgSection = "# format:org_id|changed|org_name|country|source\n" +
		"EX-ARIN|20120130|Example, Inc.|US|ARIN\n" +
		"FU-LACNIC||FUNDA\xc7\xc3O|BR|LACNIC\n"
	autSection = "# format: aut|changed|aut_name|org_id|opaque_id|source\n" +
		"64496|20240618|EX-1|EX-ARIN|e5e3_ARIN|ARIN\n" +
		"64497||EX-2|GONE-ARIN||ARIN\n" +
		"64498||FU|FU-LACNIC||LACNIC\n" +
		"64499|||GONE-ARIN||ARIN\n" +
		"1.0||OLD|EX-ARIN\n"
	orgJSON = `{"asn":"64496","changed":"20240618","name":"EX-1","opaqueId":"e5e3_ARIN","organizationId":"EX-ARIN","source":"ARIN","type":"ASN"}
{"changed":"20120130","country":"US","name":"Example, Inc.","organizationId":"EX-ARIN","source":"ARIN","type":"Organization"}
{"asn":"64497","name":"EX-2","organizationId":"GONE-ARIN","type":"ASN"}

{"asn":"64499","name":"","organizationId":"GONE-ARIN","type":"ASN"}
{"asn":"64498","name":"FU","organizationId":"FU-LACNIC","type":"ASN"}
{"asn":"65536","name":"OLD","organizationId":"EX-ARIN","type":"ASN"}
{"country":"BR","name":"FUNDA` + "\xc7\xc3" + `O","organizationId":"FU-LACNIC","type":"Organization"}
`
)

func orgs(t testing.TB, text string) (*Orgs, error) {
	t.Helper()
	return readOrgs(bufio.NewReader(strings.NewReader(text)), Info{Name: "x"})
}

func TestOrgs(t *testing.T) {
	for name, text := range map[string]string{
		"organisations first": "# name: AS Org\n" + orgSection + autSection,
		"organisations last":  autSection + "\n" + orgSection,
		"JSON":                orgJSON,
		"CRLF":                strings.ReplaceAll(orgSection+autSection, "\n", "\r\n"),
		"small letters":       strings.ReplaceAll(orgSection, "|US|", "|us|") + autSection,
		"twice":               strings.ReplaceAll(autSection, "EX-1", "OLDER") + orgSection + autSection,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := orgs(t, text)
			require.NoError(t, err)
			for number, want := range map[uint32]Org{
				64495: {},
				64496: {"EX-ARIN", "Example, Inc.", "US", "EX-1", Info{Name: "x"}},
				64497: {"GONE-ARIN", "EX-2", "", "EX-2", Info{Name: "x"}},
				64498: {"FU-LACNIC", "FUNDAÇÃO", "BR", "FU", Info{Name: "x"}},
				65536: {"EX-ARIN", "Example, Inc.", "US", "OLD", Info{Name: "x"}},
			} {
				got, ok := o.Lookup(number)
				assert.Equal(t, want, got)
				assert.Equal(t, want != Org{}, ok)
			}
			_, ok := o.Lookup(64499)
			assert.False(t, ok, "no name at all")
		})
	}
	for text, want := range map[string]string{
		"":                                   "has no AS numbers",
		orgSection:                           "has no AS numbers",
		"64496|x|y|z\n":                      "line 1: expected a line # format:org_id|... or # format:aut|... before it",
		"# format:name|x\n":                  "line 1: expected columns org_id|... or aut|...",
		`{"type":"ASN","asn":"x"}`:           "line 1: expected an AS number",
		`{"type":"Net"}`:                     `line 1: expected type Organization or ASN, found "Net"`,
		"{\n":                                "line 1: unexpected end of JSON input",
		"\xcf\x9a\x57\x13":                   "GDBM file is cut off: it has 4 bytes",
		"\x13\x57\x9a\xcf" + autSection:      "numbers in big-endian order",
		"\xcd\x9a\x57\x13" + autSection:      "offsets of 32 bits",
		gdbm("AS1", "A")[:200]:               "damaged or cut off",
		gdbm("AS1", "A")[:gdbmRecords]:       "damaged or cut off: record",
		gdbm("organisation", "not a number"): "has no AS numbers",
	} {
		_, err := orgs(t, text)
		assert.ErrorContains(t, err, want, "%q", text)
	}
	// A bad row costs that row.
	for row, want := range map[string]string{
		"x\n":               "expected 4 columns or more separated by |, found 1",
		"x|||EX\n":          `expected an AS number from 0 to 4294967295, found "x"`,
		"1.65536|||EX\n":    "expected an AS number",
		"65536.1|||EX\n":    "expected an AS number",
		"4294967296|||EX\n": "expected an AS number",
		"64496|||" + strings.Repeat("x", 3<<20) + "\n": "the line has more than 1048576 bytes",
	} {
		o, err := orgs(t, autSection+row+orgSection)
		require.NoError(t, err, row)
		require.Len(t, o.Remarks(), 1)
		assert.Contains(t, o.Remarks()[0], "1 row is left out: line 7: "+want)
		org, _ := o.Lookup(64496)
		assert.Equal(t, "Example, Inc.", org.Name)
	}
	o, err := orgs(t, strings.TrimSuffix(autSection, "\n"))
	require.NoError(t, err)
	assert.Equal(t, []string{"it is truncated in its last line"}, o.Remarks())
	o, err = orgs(t, "# format:org_id|changed|org_name|country|source\nA|2020|Bar | and bar|DE|RIPE\n# format:aut|changed|aut_name|org_id|opaque_id|source\n1|2020|X|Y|A||RIPE\n")
	require.NoError(t, err)
	org, _ := o.Lookup(1)
	assert.Equal(t, Org{ID: "A", Name: "Bar | and bar", Country: "DE", ASName: "X|Y", Source: org.Source}, org)

	name := filepath.Join(t.TempDir(), "orgs")
	require.NoError(t, os.WriteFile(name, []byte("x"), 0o600))
	_, err = OpenOrgs(name)
	assert.ErrorContains(t, err, "asn: "+name+": line 1: ")
	var zero Orgs
	_, ok := zero.Lookup(1)
	assert.False(t, ok)
}

const gdbmRecords = 512 // offset of the records of gdbm

// gdbm returns a GDBM file of one bucket, to which the whole directory points.
func gdbm(keysAndValues ...string) string {
	le := binary.LittleEndian
	const directory, bucket, elements = 64, 128, 8
	const bucketSize = gdbmBucketSize + elements*gdbmElementSize
	b := make([]byte, gdbmRecords)
	le.PutUint32(b, gdbmMagic)
	le.PutUint32(b[4:], 512)
	le.PutUint64(b[8:], directory)
	le.PutUint32(b[16:], 4*8)
	le.PutUint32(b[20:], 2)
	le.PutUint32(b[24:], bucketSize)
	le.PutUint32(b[28:], elements)
	for i := range 4 {
		le.PutUint64(b[directory+8*i:], bucket)
	}
	for i := range elements {
		e := b[bucket+gdbmBucketSize+i*gdbmElementSize:]
		if 2*i >= len(keysAndValues) {
			le.PutUint32(e, 1<<32-1)
			continue
		}
		key, value := keysAndValues[2*i], keysAndValues[2*i+1]
		le.PutUint64(e[8:], uint64(len(b)))
		le.PutUint32(e[16:], uint32(len(key)))
		le.PutUint32(e[20:], uint32(len(value)))
		b = append(b, key+value...)
	}
	return string(b)
}

func TestGDBM(t *testing.T) {
	o, err := orgs(t, gdbm("AS64496", "Example", "64497\x00", "Six\x00", "version", "1", "64498", "FUNDA\xc7\xc3O"))
	require.NoError(t, err)
	for number, want := range map[uint32]string{64496: "Example", 64497: "Six", 64498: "FUNDAÇÃO"} {
		got, ok := o.Lookup(number)
		assert.True(t, ok)
		assert.Equal(t, want, got.Name)
	}
}

func TestOrgsReal(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	text, err := OpenOrgs(data(t, "org/SYNTHETIC.as-org2info.txt.gz"))
	require.NoError(t, err)
	lines, err := OpenOrgs(data(t, "org/SYNTHETIC.as-org2info.jsonl.xz"))
	require.NoError(t, err)
	require.Len(t, lines.ases, len(text.ases))
	names, err := OpenOrgs(data(t, "asn/ipfire_asn_to_name.dbm.gz"))
	require.NoError(t, err)
	assert.Len(t, names.ases, 93412)
	got, _ := names.Lookup(13335)
	assert.Equal(t, "CLOUDFLARENET", got.Name)
	for _, a := range text.ases {
		x, ok := text.Lookup(a.number)
		y, ok2 := lines.Lookup(a.number)
		x.Source, y.Source = Info{}, Info{}
		if x != y || ok != ok2 {
			require.Equal(t, x, y)
		}
	}
	t.Log(len(text.ases), "numbers,", len(text.orgs), "organisations")
}

func FuzzOrgs(f *testing.F) {
	f.Add(orgSection + autSection)
	f.Add(orgJSON)
	f.Add(gdbm("AS64496", "Example", "64497\x00", "Six\x00"))
	f.Fuzz(func(t *testing.T, text string) {
		o, err := orgs(t, text)
		if err != nil {
			require.Nil(t, o)
			return
		}
		for _, a := range o.ases {
			if got, ok := o.Lookup(a.number); ok {
				require.NotEmpty(t, got.Name)
				require.Equal(t, layout.UTF8(got.Name), got.Name)
			}
		}
	})
}

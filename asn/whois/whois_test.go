package whois

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/terminal"
)

var day = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// write makes a file of a day.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	require.NoError(t, os.Chtimes(name, day, day))
	return name
}

// A network is a row of a table.
type network struct {
	prefix string
	as     asn.AS
}

func tableOf(t testing.TB, networks ...network) *asn.DB {
	db, err := asn.New(asn.Info{Name: "table", Date: day}, func(yield func(asn.Range, asn.AS) bool) {
		for _, n := range networks {
			if !yield(asn.RangeOf(netip.MustParsePrefix(n.prefix)), n.as) {
				return
			}
		}
	})
	require.NoError(t, err)
	return db
}

func exampleSources(t testing.TB) *Sources {
	t.Helper()
	dir := t.TempDir()
	d, err := asn.OpenDelegations(write(t, dir, "file0", "2|arin|1|1|1|20200101|0\n"+
		"arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n"+
		"arin|US|asn|64496|2|20000103|assigned|A\n"+
		"arin|US|asn|64499|1|20000103|assigned|A\n"+
		"ripencc|DE|ipv4|9.0.0.0|256|20000102|allocated\n"+
		"ripencc|DE|ipv6|2001:4200::|32|20000102|allocated\n"+
		"arin||ipv4|11.0.0.0|256||available|\n"))
	require.NoError(t, err)
	o, err := asn.OpenOrgs(write(t, dir, "x", "# format:org_id|changed|org_name|country|source\n"+
		"EX-ARIN|20120130|Exam\x1bple|US|ARIN\n"+
		"FU-LACNIC||FUNDA\xc7\xc3O|BR|LACNIC\n"+
		"# format: aut|changed|aut_name|org_id|opaque_id|source\n"+
		"64496|20240618|EX-1|EX-ARIN|e5e3_ARIN|ARIN\n"+
		"64497||EX-2|GONE-ARIN||ARIN\n"+
		"64498||FU|FU-LACNIC||LACNIC\n"+
		"64499|||GONE-ARIN||ARIN\n"))
	require.NoError(t, err)
	db := tableOf(t,
		network{"8.0.0.0/25", asn.AS{Number: 64497, Org: "Own"}},
		network{"8.0.0.128/25", asn.AS{Number: 7, Org: "Provider"}},
		network{"9.0.0.0/24", asn.AS{Number: 64498, Org: "Six"}},
		network{"11.0.0.0/24", asn.AS{Number: 64498, Org: "Six"}})
	a, err := asn.OpenAutNums("", write(t, dir, "db", "aut-num: AS64497\ndescr: \x1b[2Jx\n"))
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	places, err := geoip.New(geoip.Info{Name: "places", Date: day}, func(yield func(geoip.Range, geoip.Place) bool) {
		yield(geoip.RangeOf(netip.MustParsePrefix("8.0.0.1/32")), geoip.Place{Lat: 1.5, Lon: -2, Country: "US", City: "Town", Precision: geoip.City})
	})
	require.NoError(t, err)
	return &Sources{Delegations: d, Orgs: o, Networks: []*asn.DB{{}, db}, AutNums: a, Places: []*geoip.DB{{}, places}}
}

func TestWhois(t *testing.T) {
	w := exampleSources(t)
	for question, want := range map[string]string{
		"8.0.0.1": `8.0.0.1
  1 Delegation    8.0.0.0-8.0.0.255 allocated 2000-01-02, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  EX-2, GONE-ARIN  [x, 2026-01-02]
  3 AS numbers    AS64496-AS64497 AS64499  [file0, 2020-01-01]
  4 Place         1.5000 -2.0000, Town, US, city level  [places, 2026-01-02]
  5 Announced by  AS64497 Own  [table, 2026-01-02]
  6 aut-num       as follows  [db, 2026-01-02]

aut-num: AS64497
descr: ` + "\uFFFD" + `[2Jx
`,
		// A customer of another AS: the organisation is that of the holder.
		"8.0.0.200": `8.0.0.200
  1 Delegation    8.0.0.0-8.0.0.255 allocated 2000-01-02, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  Exam` + "\uFFFD" + `ple, US, EX-ARIN  [x, 2026-01-02]
  3 AS numbers    AS64496-AS64497 AS64499  [file0, 2020-01-01]
  4 Place         not in the open files (one of: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS7 Provider  [table, 2026-01-02]
  6 aut-num       as follows  [db, 2026-01-02]

aut-num: AS64497
descr: ` + "\uFFFD" + `[2Jx
`,
		"::ffff:9.0.0.1": `9.0.0.1
  1 Delegation    9.0.0.0-9.0.0.255 allocated 2000-01-02, ripencc, DE  [file0, 2026-01-02]
  2 Organisation  FUNDAÇÃO, BR, FU-LACNIC (of the AS that announces the address)  [x, 2026-01-02]
  3 AS numbers    AS64498 (of the AS that announces the address)  [table, 2026-01-02]
  4 Place         not in the open files (one of: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS64498 Six  [table, 2026-01-02]
  6 aut-num       not in the open files (one of: a registry's database such as ripe.db.aut-num.gz)
`,
		"11.0.0.1": `11.0.0.1
  1 Delegation    11.0.0.0-11.0.0.255 available, arin  [file0, 2020-01-01]
  2 Organisation  none, since the block is available
  3 AS numbers    none, since the block is available
  4 Place         not in the open files (one of: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS64498 Six  [table, 2026-01-02]
  6 aut-num       not in the open files (one of: a registry's database such as ripe.db.aut-num.gz)
`,
		"2001:4200::1%eth0": `2001:4200::1
  1 Delegation    2001:4200::-2001:4200:ffff:ffff:ffff:ffff:ffff:ffff allocated 2000-01-02, ripencc, DE  [file0, 2026-01-02]
  2 Organisation  unknown, since neither a holder nor an AS number is known
  3 AS numbers    unknown, since neither a holder nor an AS number is known
  4 Place         not in the open files (one of: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  not in the open files (one of: a table of AS numbers such as GeoLite2-ASN.mmdb or ip2asn-combined.tsv.gz)
  6 aut-num       unknown, since neither a holder nor an AS number is known
`,
		"10.0.0.1": "10.0.0.1: private use (RFC 1918)\n",
		"as64497": `AS64497: documentation (RFC 5398)
  1 Delegation    AS64496-AS64497 assigned 2000-01-03, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  EX-2, GONE-ARIN  [x, 2026-01-02]
  3 AS numbers    AS64496-AS64497 AS64499  [file0, 2020-01-01]
  5 AS name       AS64497 Own  [table, 2026-01-02]
  6 aut-num       as follows  [db, 2026-01-02]

aut-num: AS64497
descr: ` + "\uFFFD" + `[2Jx
`,
	} {
		t.Run(question, func(t *testing.T) {
			r, err := w.Ask(question)
			require.NoError(t, err)
			for i, source := range []asn.Info{r.Delegation.Source, r.Org.Source, r.asnsSource, r.PlaceSource, r.ASSource, r.AutNum.Source} {
				if i != partPlace {
					assert.Equal(t, source == asn.Info{}, r.Missing[i] != "", "part %d: %q", i, r.Missing[i])
				}
			}
			var b strings.Builder
			require.NoError(t, r.WriteText(&b))
			assert.Equal(t, want, b.String())
		})
	}
	for _, question := range []string{"", "x", "192.0.2.0/24", "ASx", "AS4294967296", "13335"} {
		_, err := w.Ask(question)
		assert.ErrorContains(t, err, ": expected an ", question)
	}
}

func TestWhoisJSON(t *testing.T) {
	w := exampleSources(t)
	r, err := w.Ask("8.0.0.1")
	require.NoError(t, err)
	got, err := json.Marshal(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"address":"8.0.0.1","country":"US","registry":"arin","block":"8.0.0.0-8.0.0.255","status":"allocated",
		"date":"2000-01-02","opaque_id":"A","org":"EX-2","org_id":"GONE-ARIN","asns":["AS64496-AS64497","AS64499"],
		"lat":1.5,"lon":-2,"place_country":"US","city":"Town","place_precision":"city","asn":64497,"asn_org":"Own",
		"aut_num":"aut-num: AS64497\ndescr: \u001b[2Jx\n",
		"sources":{"country":{"file":"file0","date":"2020-01-01"},"delegation":{"file":"file0","date":"2020-01-01"},"org":{"file":"x","date":"2026-01-02"},
			"asns":{"file":"file0","date":"2020-01-01"},"place":{"file":"places","date":"2026-01-02"},
			"asn":{"file":"table","date":"2026-01-02"},"aut_num":{"file":"db","date":"2026-01-02"}}}`, string(got))

	var zero Sources
	r, err = zero.Ask("8.0.0.1")
	require.NoError(t, err)
	got, err = json.Marshal(r)
	require.NoError(t, err)
	var o struct {
		Address string
		Missing map[string]string
	}
	require.NoError(t, json.Unmarshal(got, &o))
	assert.Equal(t, "8.0.0.1", o.Address)
	require.Len(t, o.Missing, 6)
	for part, why := range o.Missing {
		assert.Contains(t, why, "no file for it is open (one of: ", part)
	}
	r, err = zero.Ask("fd00::1")
	require.NoError(t, err)
	got, err = json.Marshal(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"address":"fd00::1","special":"unique local, private use (RFC 4193)","sources":{}}`, string(got))
}

// naiveJSON is MarshalJSON by reflection.
func naiveJSON(r Report) ([]byte, error) {
	type source struct {
		File string `json:"file"`
		Date string `json:"date,omitempty"`
	}
	type object struct {
		Address   string   `json:"address,omitempty"`
		Special   string   `json:"special,omitempty"`
		Country   string   `json:"country,omitempty"`
		Registry  string   `json:"registry,omitempty"`
		Block     string   `json:"block,omitempty"`
		Status    string   `json:"status,omitempty"`
		Date      string   `json:"date,omitempty"`
		OpaqueID  string   `json:"opaque_id,omitempty"`
		Org       string   `json:"org,omitempty"`
		OrgID     string   `json:"org_id,omitempty"`
		ASNs      []string `json:"asns,omitempty"`
		ByOrigin  bool     `json:"asns_by_origin,omitempty"`
		Lat       *float64 `json:"lat,omitempty"`
		Lon       *float64 `json:"lon,omitempty"`
		City      string   `json:"city,omitempty"`
		Precision string   `json:"place_precision,omitempty"`
		ASN       uint32   `json:"asn,omitempty"`
		ASNOrg    string   `json:"asn_org,omitempty"`
		AutNum    string   `json:"aut_num,omitempty"`

		Sources map[string]source `json:"sources"`
		Missing map[string]string `json:"missing,omitempty"`
	}
	var list []string
	for _, a := range r.ASNs {
		list = append(list, a.String())
	}
	o := object{
		Special: r.Special, Registry: r.Delegation.Registry, Block: block(r.Delegation),
		Status: r.Delegation.Status, OpaqueID: r.Delegation.OpaqueID, Org: r.Org.Name, OrgID: r.Org.ID,
		ASNs: list, ByOrigin: r.ByOrigin,
		ASN: r.AS.Number, ASNOrg: r.AS.Org, AutNum: r.AutNum.Text,
		Sources: make(map[string]source), Missing: make(map[string]string),
	}
	if r.Addr.IsValid() {
		o.Address = r.Addr.String()
	}
	if d := r.Delegation.Date; !d.IsZero() {
		o.Date = d.Format(time.DateOnly)
	}
	if r.PlaceSource != (asn.Info{}) {
		o.Lat, o.Lon = &r.Place.Lat, &r.Place.Lon
		o.City, o.Precision = r.Place.City, r.Place.Precision.String()
	}
	add := func(key string, i asn.Info) {
		if i == (asn.Info{}) {
			return
		}
		s := source{File: i.Name}
		if !i.Date.IsZero() {
			s.Date = i.Date.Format(time.DateOnly)
		}
		o.Sources[key] = s
	}
	var from asn.Info
	o.Country, from = r.country()
	add("country", from)
	for i, p := range parts {
		add(p.key, r.source(i))
		if r.Missing[i] != "" && r.Special == "" {
			o.Missing[p.key] = r.Missing[i]
		}
	}
	return json.Marshal(o)
}

func FuzzJSON(f *testing.F) {
	f.Add("arin", "A \x1b[2J\"\\ \u009b \u202e \u2028 <&>", "aut-num: AS1\n\tx\r\n", "8.8.8.8", uint32(1), uint32(3), int64(1e9), 1.5, -120.25)
	f.Add("", "\xff\xc3", "", "", uint32(0), uint32(0), int64(0), 0.0, 1e-7)
	f.Fuzz(func(t *testing.T, registry, name, text, addr string, a, b uint32, date int64, lat, lon float64) {
		if math.Abs(lat) > 90 || math.Abs(lon) > 180 || math.IsNaN(lat) || math.IsNaN(lon) {
			t.Skip("no place")
		}
		i := asn.Info{Name: name, Date: time.Unix(date%(1<<37), 0).UTC()}
		r := Report{
			Delegation: asn.Delegation{Registry: registry, Country: registry, ASNs: asn.ASRange{First: a, Last: b}, Date: i.Date, Status: name, OpaqueID: text, Source: i},
			Org:        asn.Org{ID: text, Name: name, Source: asn.Info{Name: text}}, ASNs: []asn.ASRange{{First: a, Last: b}, {First: b, Last: b}}, ByOrigin: a > b,
			Place: geoip.Place{Lat: lat, Lon: lon, City: name, Precision: geoip.Precision(a % 3)}, PlaceSource: i, AS: asn.AS{Number: a, Org: name}, ASSource: i,
			AutNum: asn.AutNum{Text: text, Source: i}, asnsSource: i, Missing: [6]string{name, "", text},
		}
		r.Addr, _ = netip.ParseAddr(addr)
		if r.Addr.Zone() != "" {
			t.Skip("reports have no zones")
		}
		want, err := naiveJSON(r)
		if err != nil {
			t.Skip(err) // years that no date has
		}
		got, err := r.MarshalJSON()
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got))
		for _, c := range string(got) {
			require.False(t, terminal.Harmful(c) && c != utf8.RuneError, "%q", got)
		}
		var line strings.Builder
		require.NoError(t, r.WriteLine(&line))
		require.Equal(t, 7, strings.Count(line.String(), "\t"))
		require.Equal(t, 1, strings.Count(line.String(), "\n"))
	})
}

// data returns a file of real data that lies beside the repository.
func data(tb testing.TB, name string) string {
	file := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(file); err != nil {
		tb.Skip("no test data: ", err)
	}
	return file
}

// realSources has all real data there are.
func realSources(tb testing.TB) *Sources {
	files := Files{Cache: tb.TempDir(), Orgs: data(tb, "org/SYNTHETIC.as-org2info.txt.gz"),
		ASN:    []string{data(tb, "asn/GeoLite2-ASN-Blocks-IPv4.csv.gz"), data(tb, "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz")},
		RIR:    []string{data(tb, "rir/delegated-afrinic-extended.gz"), data(tb, "rir/delegated-apnic-extended.gz"), data(tb, "rir/delegated-arin-extended.gz"), data(tb, "rir/delegated-ripencc-extended.gz")},
		AutNum: []string{data(tb, "rpsl/lacnic.test"), data(tb, "rpsl/arin_asn_net_only.txt")},
	}
	s, err := files.Open(func(warning string) { tb.Log(warning) })
	require.NoError(tb, err)
	tb.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkReport(b *testing.B) {
	w := realSources(b)
	r := rand.New(rand.NewPCG(1, 2))
	var addrs []netip.Addr
	for range 1 << 16 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}))
	}
	for _, bb := range []struct {
		name string
		run  func(Report) error
	}{
		{"report", func(Report) error { return nil }},
		{"line", func(r Report) error { return r.WriteLine(io.Discard) }},
		{"json", func(r Report) error { _, err := r.MarshalJSON(); return err }},
		{"text", func(r Report) error { return r.WriteText(io.Discard) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				report, err := w.Report(addrs[i&(1<<16-1)])
				if err == nil {
					err = bb.run(report)
				}
				if err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// TestDamagedTable: a table that was cut while in use may know less than the next, which is not
// asked in its place.
func TestDamagedTable(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	networks := write(t, dir, "networks.tsv", "8.8.8.0\t8.8.8.255\t64496\tUS\tEXAMPLE\n")
	places := write(t, dir, "places.csv", "8.8.8.0,8.8.8.255,NL\n")
	files := Files{Data: dir, Cache: cache, Networks: tableOf(t, network{"8.8.8.0/24", asn.AS{Number: 1, Org: "Other"}})}
	s, err := files.Open(func(warning string) { t.Error(warning) })
	require.NoError(t, err)
	require.Len(t, s.Networks, 2)
	require.Len(t, s.Places, 2) // also the countries of the other
	addr := netip.MustParseAddr("8.8.8.1")
	r, err := s.Report(addr)
	require.NoError(t, err)
	assert.Equal(t, "EXAMPLE", r.AS.Org)
	assert.Equal(t, "NL", r.Place.Country)
	assert.Equal(t, filepath.Base(networks), r.ASSource.Name)
	assert.Equal(t, asn.Info{Name: filepath.Base(places), Date: day, Ranges: 1}, r.PlaceSource)

	s, err = files.Open(func(warning string) { t.Error(warning) })
	require.NoError(t, err)
	compiled, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Len(t, compiled, 3)
	for _, name := range compiled {
		require.NoError(t, os.Truncate(name, 5000))
	}
	r, err = s.Report(addr)
	assert.ErrorContains(t, err, "networks-")
	assert.ErrorContains(t, err, "places-")
	assert.Zero(t, r.AS)
	assert.Zero(t, r.Place)
	assert.NotEmpty(t, r.Missing[partPlace])
}

// TestFilesFound: of what was only found, bad files are left out with a warning, and no more are
// opened than count; what is named must be good.
func TestFilesFound(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "delegated-arin", "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n")
	bad := write(t, dir, "delegated-bad", "arin|US|ipv4|x|256|20000102|allocated|A\n")
	write(t, dir, "orgs.txt", "# format:org_id|changed|org_name|country|source\nEX\n")
	write(t, dir, "aut-num", "aut-num: AS64496\nremarks: "+strings.Repeat("x", 1<<20)+"\n")
	write(t, dir, "notes.txt", "not a table\n")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	var warnings []string
	files := Files{Data: dir, Cache: t.TempDir()}
	s, err := files.Open(func(warning string) { warnings = append(warnings, warning) })
	require.NoError(t, err)
	defer s.Close()
	assert.Empty(t, s.Places)
	assert.Empty(t, s.Networks)
	assert.Nil(t, s.Orgs)
	_, ok := s.Delegations.Lookup(netip.MustParseAddr("8.0.0.1"))
	assert.True(t, ok)
	_, ok, err = s.AutNums.Lookup(64496)
	assert.True(t, ok)
	assert.NoError(t, err)
	text := strings.Join(warnings, "\n")
	for _, want := range []string{"notes.txt", "orgs.txt", "delegated-bad"} {
		assert.Contains(t, text, "left out: "+filepath.Join(dir, want)+": ")
	}
	assert.Len(t, warnings, 4)
	assert.Contains(t, text, filepath.Join(dir, "aut-num")+": the record of AS64496 is cut: ")
	assert.Contains(t, text, `notes.txt: it is neither a table nor a file of a registry: the first line is "not a table"`)

	// Archives of tables are tables, in capitals too; those of other files are named.
	zipped := func(name, member, text string) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create(member)
		require.NoError(t, err)
		w.Write([]byte(text))
		require.NoError(t, z.Close())
		return write(t, dir, name, b.String())
	}
	zipped("NETWORKS.ZIP", "asn.csv", "8.0.0.0,8.0.0.255,64497,Example\n")
	rir := zipped("rir.zip", "delegated-arin", "arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n")
	write(t, dir, "CUT.BIN", "\x05\x06")
	write(t, dir, "old-2019-01-01.csv", "8.0.0.0,8.0.0.255,64498,Old\n")
	write(t, dir, "unknown.tsv", "9.0.0.0\t9.0.0.255\t64499\tNone\tExample\n")
	warnings = nil
	s, err = files.Open(func(warning string) { warnings = append(warnings, warning) })
	require.NoError(t, err)
	require.Len(t, s.Networks, 3)
	text = strings.Join(warnings, "\n")
	assert.Contains(t, text, "CUT.BIN: it is neither")
	assert.Contains(t, text, "rir.zip: it is neither a table nor a file of a registry: no file of the archive is a table: delegated-arin: the layout is not known")
	assert.NotContains(t, text, "unknown.tsv", "a table of networks")
	assert.Empty(t, s.Places)
	r, err := s.Ask("8.0.0.1")
	require.NoError(t, err)
	assert.Equal(t, "Example", r.AS.Org, "of the newest table")
	require.NoError(t, s.Close())
	_, err = (&Files{RIR: []string{rir}}).Open(nil)
	assert.ErrorContains(t, err, "rir.zip: is an archive: unpack it first")

	files.NoAutNums = true
	for _, named := range []Files{{Geo: []string{bad}}, {ASN: []string{bad}}, {Orgs: bad}, {RIR: []string{good, bad}}, {AutNum: []string{good}}} {
		named.Cache = files.Cache
		s, err := named.Open(func(warning string) { t.Error(warning) })
		assert.Error(t, err)
		assert.Nil(t, s)
	}
	s, err = (&Files{Data: filepath.Join(dir, "missing")}).Open(func(warning string) { t.Error(warning) })
	require.NoError(t, err)
	assert.Equal(t, &Sources{}, s)
	assert.NoError(t, s.Close())
}

// TestCountryOfAnother: coordinates without a country have that of another table, which is named.
func TestCountryOfAnother(t *testing.T) {
	table := func(name string, p geoip.Place) *geoip.DB {
		db, err := geoip.New(geoip.Info{Name: name}, func(yield func(geoip.Range, geoip.Place) bool) {
			yield(geoip.RangeOf(netip.MustParsePrefix("20.0.2.0/24")), p)
		})
		require.NoError(t, err)
		return db
	}
	points, countries := table("points", geoip.Place{Lat: 1, Lon: 2, Precision: geoip.City}), table("countries", geoip.Place{Country: "FR", Precision: geoip.Country})
	s := &Sources{Places: geoip.Tables{points, countries}}
	r, err := s.Report(netip.MustParseAddr("20.0.2.1"))
	require.NoError(t, err)
	b, err := r.MarshalJSON()
	require.NoError(t, err)
	assert.Contains(t, string(b), `"sources":{"country":{"file":"countries"},"place":{"file":"points"}}`)
	var text strings.Builder
	require.NoError(t, r.WriteText(&text))
	assert.Contains(t, text.String(), "[points, date unknown; its country: countries, date unknown]")
}

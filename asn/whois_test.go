package asn

import (
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/terminal"
)

func exampleWhois(t testing.TB) *Whois {
	t.Helper()
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	d, err := delegations(t, "2|arin|1|1|1|20200101|0\n"+
		"arin|US|ipv4|8.0.0.0|256|20000102|allocated|A\n"+
		"arin|US|asn|64496|2|20000103|assigned|A\n"+
		"arin|US|asn|64499|1|20000103|assigned|A\n"+
		"ripencc|DE|ipv4|9.0.0.0|256|20000102|allocated\n"+
		"ripencc|DE|ipv6|2001:4200::|32|20000102|allocated\n"+
		"arin||ipv4|11.0.0.0|256||available|\n")
	require.NoError(t, err)
	o, err := orgs(t, strings.Replace(orgSection, "Example, Inc.", "Exam\x1bple", 1)+autSection)
	require.NoError(t, err)
	db, err := New(Info{Name: "table", Date: day}, entries([]entry{
		{netip.MustParsePrefix("8.0.0.0/25"), AS{64497, "Own"}},
		{netip.MustParsePrefix("8.0.0.128/25"), AS{7, "Provider"}},
		{netip.MustParsePrefix("9.0.0.0/24"), AS{64498, "Six"}},
		{netip.MustParsePrefix("11.0.0.0/24"), AS{64498, "Six"}},
	}))
	require.NoError(t, err)
	dump := write(t, filepath.Join(t.TempDir(), "db"), "aut-num: AS64497\ndescr: \x1b[2Jx\n")
	a, err := OpenAutNums("", dump)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	a.dumps[0].info.Date = day
	return &Whois{Delegations: d, Orgs: o, ASNs: []*DB{{}, db}, AutNums: a, Place: func(addr netip.Addr) (Place, error) {
		if addr != netip.MustParseAddr("8.0.0.1") {
			return Place{}, nil
		}
		return Place{Lat: 1.5, Lon: -2, Country: "US", City: "Town", Precision: "city", Source: Info{Name: "places", Date: day}}, nil
	}}
}

func TestWhois(t *testing.T) {
	w := exampleWhois(t)
	for question, want := range map[string]string{
		"8.0.0.1": `8.0.0.1
  1 Delegation    8.0.0.0-8.0.0.255 allocated 2000-01-02, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  EX-2, GONE-ARIN  [x, date unknown]
  3 AS numbers    AS64496-AS64497 AS64499  [file0, 2020-01-01]
  4 Place         1.5000 -2.0000, Town, US, to the city  [places, 2026-01-02]
  5 Announced by  AS64497 Own  [table, 2026-01-02]
  6 aut-num       as follows  [db, 2026-01-02]

aut-num: AS64497
descr: ` + "\uFFFD" + `[2Jx
`,
		// A customer of another AS: the organisation is that of the holder.
		"8.0.0.200": `8.0.0.200
  1 Delegation    8.0.0.0-8.0.0.255 allocated 2000-01-02, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  Exam` + "\uFFFD" + `ple, US, EX-ARIN  [x, date unknown]
  3 AS numbers    AS64496-AS64497 AS64499  [file0, 2020-01-01]
  4 Place         not in the files that are open (wanted: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS7 Provider  [table, 2026-01-02]
  6 aut-num       as follows  [db, 2026-01-02]

aut-num: AS64497
descr: ` + "\uFFFD" + `[2Jx
`,
		"::ffff:9.0.0.1": `9.0.0.1
  1 Delegation    9.0.0.0-9.0.0.255 allocated 2000-01-02, ripencc, DE  [file0, date unknown]
  2 Organisation  FUNDAÇÃO, BR, FU-LACNIC (of the AS that announces the address)  [x, date unknown]
  3 AS numbers    AS64498 (of the AS that announces the address)  [table, 2026-01-02]
  4 Place         not in the files that are open (wanted: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS64498 Six  [table, 2026-01-02]
  6 aut-num       not in the files that are open (wanted: a registry's database such as ripe.db.aut-num.gz)
`,
		"11.0.0.1": `11.0.0.1
  1 Delegation    11.0.0.0-11.0.0.255 available, arin  [file0, 2020-01-01]
  2 Organisation  none, since the block is available
  3 AS numbers    none, since the block is available
  4 Place         not in the files that are open (wanted: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  AS64498 Six  [table, 2026-01-02]
  6 aut-num       not in the files that are open (wanted: a registry's database such as ripe.db.aut-num.gz)
`,
		"2001:4200::1%eth0": `2001:4200::1
  1 Delegation    2001:4200::-2001:4200:ffff:ffff:ffff:ffff:ffff:ffff allocated 2000-01-02, ripencc, DE  [file0, date unknown]
  2 Organisation  unknown, since neither a holder nor an AS number is known
  3 AS numbers    unknown, since neither a holder nor an AS number is known
  4 Place         not in the files that are open (wanted: a table of places such as GeoLite2-City.mmdb or dbip-city-lite.csv.gz)
  5 Announced by  not in the files that are open (wanted: a table of AS numbers such as GeoLite2-ASN.mmdb or ip2asn-combined.tsv.gz)
  6 aut-num       unknown, since neither a holder nor an AS number is known
`,
		"10.0.0.1": "10.0.0.1: private use (RFC 1918)\n",
		"as64497": `AS64497: documentation (RFC 5398)
  1 Delegation    AS64496-AS64497 assigned 2000-01-03, arin, US, holder A  [file0, 2020-01-01]
  2 Organisation  EX-2, GONE-ARIN  [x, date unknown]
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
			for i, source := range []Info{r.Delegation.Source, r.Org.Source, r.asnsSource, r.Place.Source, r.ASSource, r.AutNum.Source} {
				if i != partPlace {
					assert.Equal(t, source == Info{}, r.Missing[i] != "", "part %d: %q", i, r.Missing[i])
				}
			}
			var b strings.Builder
			require.NoError(t, r.WriteText(&b))
			assert.Equal(t, want, b.String())
		})
	}
	for _, question := range []string{"", "x", "192.0.2.0/24", "ASx", "AS4294967296", "13335"} {
		_, err := w.Ask(question)
		assert.ErrorContains(t, err, "asn: want an ", question)
	}
}

func TestWhoisJSON(t *testing.T) {
	w := exampleWhois(t)
	r, err := w.Ask("8.0.0.1")
	require.NoError(t, err)
	got, err := json.Marshal(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"address":"8.0.0.1","country":"US","registry":"arin","block":"8.0.0.0-8.0.0.255","status":"allocated",
		"date":"2000-01-02","opaque_id":"A","org":"EX-2","org_id":"GONE-ARIN","asns":["AS64496-AS64497","AS64499"],
		"lat":1.5,"lon":-2,"city":"Town","place_precision":"city","asn":64497,"asn_org":"Own",
		"aut_num":"aut-num: AS64497\ndescr: \u001b[2Jx\n",
		"sources":{"country":{"file":"file0","date":"2020-01-01"},"delegation":{"file":"file0","date":"2020-01-01"},"org":{"file":"x"},
			"asns":{"file":"file0","date":"2020-01-01"},"place":{"file":"places","date":"2026-01-02"},
			"asn":{"file":"table","date":"2026-01-02"},"aut_num":{"file":"db","date":"2026-01-02"}}}`, string(got))

	var zero Whois
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
		assert.Contains(t, why, "no file is open that tells (wanted: ", part)
	}
	r, err = zero.Ask("fd00::1")
	require.NoError(t, err)
	got, err = json.Marshal(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"address":"fd00::1","special":"unique local, private use (RFC 4193)","sources":{}}`, string(got))
}

// TestWhoisReal compares the names of AS numbers with a search of all ranges.
func TestWhoisReal(t *testing.T) {
	db, err := Open(data(t, "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz"))
	require.NoError(t, err)
	names := make(map[uint32]string)
	for _, as := range db.All() {
		names[as.Number] = as.Org
	}
	for number, want := range names {
		got, ok := db.nameOf(number)
		require.True(t, ok)
		require.Equal(t, want, got, number)
	}
	_, ok := db.nameOf(0)
	assert.False(t, ok)
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
		Special: r.Special, Registry: r.Delegation.Registry, Block: r.Delegation.block(),
		Status: r.Delegation.Status, OpaqueID: r.Delegation.OpaqueID, Org: r.Org.Name, OrgID: r.Org.ID,
		ASNs: list, ByOrigin: r.ByOrigin, City: r.Place.City, Precision: r.Place.Precision,
		ASN: r.AS.Number, ASNOrg: r.AS.Org, AutNum: r.AutNum.Text,
		Sources: make(map[string]source), Missing: make(map[string]string),
	}
	if r.Addr.IsValid() {
		o.Address = r.Addr.String()
	}
	if d := r.Delegation.Date; !d.IsZero() {
		o.Date = d.Format(time.DateOnly)
	}
	if r.Place.Source != (Info{}) {
		o.Lat, o.Lon = &r.Place.Lat, &r.Place.Lon
	}
	add := func(key string, i Info) {
		if i == (Info{}) {
			return
		}
		s := source{File: i.Name}
		if !i.Date.IsZero() {
			s.Date = i.Date.Format(time.DateOnly)
		}
		o.Sources[key] = s
	}
	var from Info
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
		i := Info{Name: name, Date: time.Unix(date%(1<<37), 0).UTC()}
		r := Report{
			Delegation: Delegation{Registry: registry, Country: registry, ASNs: ASRange{a, b}, Date: i.Date, Status: name, OpaqueID: text, Source: i},
			Org:        Org{ID: text, Name: name, Source: Info{Name: text}}, ASNs: []ASRange{{a, b}, {b, b}}, ByOrigin: a > b,
			Place: Place{Lat: lat, Lon: lon, City: name, Precision: text, Source: i}, AS: AS{a, name}, ASSource: i,
			AutNum: AutNum{text, i}, asnsSource: i, Missing: [6]string{name, "", text},
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

// realWhois has all real data there are.
func realWhois(tb testing.TB) *Whois {
	d, err := OpenDelegations(data(tb, "rir/delegated-afrinic-extended.gz"), data(tb, "rir/delegated-apnic-extended.gz"),
		data(tb, "rir/delegated-arin-extended.gz"), data(tb, "rir/delegated-ripencc-extended.gz"))
	require.NoError(tb, err)
	o, err := OpenOrgs(data(tb, "org/SYNTHETIC.as-org2info.txt.gz"))
	require.NoError(tb, err)
	v4, err := Open(data(tb, "asn/GeoLite2-ASN-Blocks-IPv4.csv.gz"))
	require.NoError(tb, err)
	v6, err := Open(data(tb, "asn/GeoLite2-ASN-Blocks-IPv6.csv.gz"))
	require.NoError(tb, err)
	a, err := OpenAutNums("", data(tb, "rpsl/lacnic.test"), data(tb, "rpsl/arin_asn_net_only.txt"))
	require.NoError(tb, err)
	tb.Cleanup(func() { a.Close() })
	return &Whois{Delegations: d, Orgs: o, ASNs: []*DB{v4, v6}, AutNums: a}
}

func BenchmarkReport(b *testing.B) {
	w := realWhois(b)
	r := rand.New(rand.NewPCG(1, 2))
	var addrs []netip.Addr
	for range 1 << 16 {
		addrs = append(addrs, addr4(r.Uint32()))
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

package compare

import (
	"bytes"
	"encoding/csv"
	"io"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/random"
)

// A text is a layout of lines.
type text struct {
	name    string
	sep     rune
	columns string // what the columns are; other columns have another name
	header  string // the first line; empty: there is none
	decimal bool   // addresses are numbers
	split   bool   // a file has one family only
	hosts   bool   // networks lack their first and last address
	quoted  bool   // all fields are
	holes   bool   // a row that says nothing is a hole in those around it, and else left out
	none    string // what stands for nothing
	zero    string // what stands for no coordinates
}

var texts = []text{
	{name: "DB-IP city", sep: ',', columns: "first last continent country region city lat lon", zero: "0"},
	{name: "DB-IP country", sep: ',', columns: "first last country"},
	{name: "DB-IP AS", sep: ',', columns: "first last as org", none: "-"},
	{name: "tor", sep: ',', columns: "first last country", decimal: true, split: true, none: "??"},
	{name: "iptoasn", sep: '\t', columns: "first last as country org", none: "None"},
	{name: "iptoasn with numbers", sep: '\t', columns: "first last as country org", decimal: true, split: true, none: "None"},
	{name: "IPinfo Lite", sep: ',', columns: "network other country continent continent as org domain", header: "network,country,country_code,continent,continent_code,asn,as_name,as_domain"},
	{name: "sapics with numbers", sep: ',', columns: "first last country region region2 city postal lat lon zone", decimal: true, split: true},
	{name: "IP2Location DB1", sep: ',', columns: "first last country countryName", decimal: true, quoted: true, none: "-"},
	{name: "IP2Location DB3", sep: ',', columns: "first last country countryName region city", decimal: true, quoted: true, none: "-"},
	{name: "IP2Location DB5", sep: ',', columns: "first last country countryName region city lat lon", decimal: true, quoted: true, none: "-", zero: "0.000000"},
	{name: "IP2Location DB9", sep: ',', columns: "first last country countryName region city lat lon postal", decimal: true, quoted: true, none: "-", zero: "0.000000"},
	{name: "IP2Location DB11", sep: ',', columns: "first last country countryName region city lat lon postal offset", decimal: true, quoted: true, none: "-", zero: "0.000000"},
	{name: "IP2Location ASN", sep: ',', columns: "first last cidr as org", decimal: true, quoted: true, none: "-"},
	{name: "connmap", sep: ',', columns: "first last lat lon", decimal: true, split: true, hosts: true},
	{name: "pfx2as", sep: '\t', columns: "prefix length as"},
	{name: "pyasn", sep: '\t', columns: "network as"},
	{name: "geofeed", sep: ',', columns: "network country region city postal", holes: true},
	{name: "GeoLite2 city", sep: ',', columns: "network id registered other zeros zeros postal lat lon radius anycast",
		header: "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider,postal_code,latitude,longitude,accuracy_radius,is_anycast"},
	{name: "GeoLite2 AS", sep: ',', columns: "network as org", header: "network,autonomous_system_number,autonomous_system_organization"},
	{name: "named", sep: ';', columns: "city as network country lat lon radius org", header: "City;ASN;Network;CC;Lat;Lon;Accuracy_Radius;Organisation"},
}

func (x text) has(column string) bool { return slices.Contains(strings.Fields(x.columns), column) }

// spans returns random rows of a family from the first address to the last: most are beside each
// other, some in others. Those of IPv6 begin above addresses that stand for ones of IPv4.
func spans(r *rand.Rand, n int, four bool) (rows []row[int]) {
	begin, end := key{}, key{0, 1<<32 - 1}
	if !four {
		begin, end = key{0x2003 << 48, 0}, key{^uint64(0), ^uint64(0)}
	}
	points := []key{begin}
	for range n {
		switch p := points[r.IntN(len(points))]; {
		case r.IntN(3) == 0:
			p = p.plus(key{0, r.Uint64N(300)})
			if begin.compare(p) <= 0 && p.compare(end) <= 0 {
				points = append(points, p)
			}
		case four:
			points = append(points, key{0, uint64(r.Uint32())})
		default:
			points = append(points, key{begin.hi + r.Uint64N(^begin.hi+1), pick(r, 0, r.Uint64())})
		}
	}
	slices.SortFunc(points, key.compare)
	points = slices.Compact(points)
	for i, p := range points {
		to := end
		if i+1 < len(points) {
			to = points[i+1].minus(key{0, 1})
		}
		if r.IntN(5) > 0 || to == end {
			rows = append(rows, row[int]{p.addr(four), to.addr(four), 0})
		}
	}
	for range len(rows) / 2 {
		x := rows[r.IntN(len(rows))]
		a, b := between(r, x.first, x.last), between(r, x.first, x.last)
		if b.Less(a) {
			a, b = b, a
		}
		rows = append(rows, row[int]{pick(r, a, x.first), pick(r, b, x.last), 0})
	}
	return rows
}

// values returns what the columns of a random row have but for the addresses.
func (x text) values(r *rand.Rand) map[string]string {
	country := pick(r, codes...)
	if country == "T1" {
		country = "CH"
	}
	v := map[string]string{"country": country, "countryName": "Country, name", "continent": "EU", "region": pick(r, names...), "city": pick(r, names...),
		"lat": formatted(r, degrees(r, 90)), "lon": formatted(r, degrees(r, 180)), "postal": "53111", "radius": strconv.Itoa(r.IntN(1500)),
		"as": strconv.Itoa(1 + r.IntN(300)), "org": pick(r, names...) + strings.Repeat(" AG", r.IntN(40)), "zone": "Europe/Berlin", "offset": "+01:00", "domain": "example.com",
		"id": strconv.Itoa(r.IntN(60)), "registered": strconv.Itoa(r.IntN(60)), "zeros": "0", "other": "Germany", "cidr": "192.0.2.0/24"}
	if x.has("domain") {
		v["as"] = "AS" + v["as"]
	}
	if x.has("length") || x.columns == "network as" {
		v["as"] = pick(r, v["as"], v["as"]+"_64496", v["as"]+",64497", "4200000000")
	}
	if x.columns == "first last as org" {
		v["as"] = pick(r, v["as"], "AS"+v["as"], "AS1."+v["as"])
	}
	nothing := func(columns ...string) {
		for _, c := range columns {
			v[c] = x.none
		}
	}
	switch r.IntN(8) {
	case 0:
		nothing("country", "countryName", "region", "city", "postal", "as", "org", "id", "registered", "radius", "zone")
		v["lat"], v["lon"] = x.zero, x.zero
		if x.has("as") && x.sep == '\t' {
			v["as"], v["org"] = "0", "Not routed"
		}
	case 1:
		nothing("region", "city", "postal")
	case 2:
		nothing("city")
	case 3:
		nothing("id", "country")
	case 4:
		nothing("as", "org")
		if x.has("as") && x.sep == '\t' {
			v["as"] = "0"
		}
	case 5:
		v["lat"], v["lon"] = x.zero, x.zero
	}
	return v
}

// formatted writes a number in one of the ways that are met.
func formatted(r *rand.Rand, f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if r.IntN(3) == 0 {
		s = strconv.FormatFloat(f, 'f', 7, 64)
	}
	return s
}

// line writes a row.
func (x text) line(b *bytes.Buffer, r *rand.Rand, columns []string, addresses, values map[string]string) {
	for i, column := range columns {
		if i > 0 {
			b.WriteRune(x.sep)
		}
		s, ok := addresses[column]
		if !ok {
			s = values[column]
		}
		if x.sep != '\t' && (x.quoted || strings.ContainsAny(s, `",;`) || r.IntN(20) == 0) {
			s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
		}
		b.WriteString(s)
	}
	b.WriteString(pick(r, "\n", "\r\n"))
}

// written returns a random file of rows of some families.
func (x text) written(r *rand.Rand, families ...bool) []byte {
	var b bytes.Buffer
	if x.header != "" {
		b.WriteString(x.header + "\n")
	} else if r.IntN(2) == 0 {
		b.WriteString("# made at random\n")
	}
	var some []map[string]string
	for range 1000 {
		some = append(some, x.values(r))
	}
	var rows []map[string]string // their addresses
	for _, four := range families {
		if x.has("first") {
			for _, s := range spans(r, 5000, four) {
				both := len(families) > 1
				rows = append(rows, map[string]string{"first": x.address(s.first, both), "last": x.address(s.last, both)})
			}
			continue
		}
		for _, p := range networks(r, 5000, four) {
			s := p.String()
			if p.IsSingleIP() && r.IntN(2) == 0 {
				s = p.Addr().String()
			}
			rows = append(rows, map[string]string{"network": s, "prefix": p.Addr().String(), "length": strconv.Itoa(p.Bits())})
		}
	}
	if r.IntN(2) == 0 {
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
	columns := strings.Fields(x.columns)
	for _, addresses := range rows {
		x.line(&b, r, columns, addresses, pick(r, some...))
	}
	return b.Bytes()
}

// address writes an address. In files of both families in decimal those of IPv4 are mapped.
func (x text) address(a netip.Addr, both bool) string {
	if !x.decimal {
		return a.String()
	}
	if a.Is4() && both {
		a = netip.AddrFrom16(a.As16())
	}
	return new(big.Int).SetBytes(a.AsSlice()).String()
}

// The fields of a row, and the columns in which they are.
type fields struct{ columns, line []string }

// at returns what is in a column; empty: there is none.
func (f fields) at(column string) string {
	if i := slices.Index(f.columns, column); i >= 0 && i < len(f.line) {
		return f.line[i]
	}
	return ""
}

// restored returns the network that lacks its first and last address, or else what it is given.
func restored(one, two netip.Addr) (netip.Addr, netip.Addr) {
	for bits := range 31 {
		if p, err := one.Prev().Prefix(bits); err == nil && p.IsValid() && p.Addr() == one.Prev() && last(p) == two.Next() {
			return p.Addr(), last(p)
		}
	}
	return one, two
}

// parsed returns the rows of a file, with what encoding/csv finds in the columns.
func (x text) parsed(t *testing.T, from io.Reader) (rows []row[fields]) {
	c := csv.NewReader(from)
	c.Comma, c.Comment, c.LazyQuotes, c.FieldsPerRecord = x.sep, '#', x.sep == '\t', -1
	columns := strings.Fields(x.columns)
	spans, length := x.has("first"), x.has("length")
	for n := 0; ; n++ {
		line, err := c.Read()
		if err == io.EOF {
			return rows
		}
		require.NoError(t, err)
		if n == 0 && x.header != "" {
			continue
		}
		f := fields{columns, line}
		var one, two netip.Addr
		if spans {
			one, two = address(t, f.at("first")), address(t, f.at("last"))
			if x.hosts && one.Is4() {
				one, two = restored(one, two)
			}
		} else {
			s := f.at("network")
			if length {
				s = f.at("prefix") + "/" + f.at("length")
			}
			p, err := netip.ParsePrefix(s)
			if err != nil {
				a := netip.MustParseAddr(s)
				p = netip.PrefixFrom(a, a.BitLen())
			}
			one, two = p.Masked().Addr(), last(p.Masked())
		}
		rows = append(rows, row[fields]{one, two, f})
	}
}

// address reads an address; as a number below 2^32 it is one of IPv4.
func address(t *testing.T, s string) netip.Addr {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return key{0, n}.addr(true)
	}
	if n, ok := new(big.Int).SetString(s, 10); ok {
		return netip.AddrFrom16([16]byte(n.FillBytes(make([]byte, 16)))).Unmap()
	}
	a, err := netip.ParseAddr(s)
	require.NoError(t, err)
	return a.Unmap()
}

// code returns a code of a country in capitals; empty: it stands for none.
func code(s string) string {
	if s = strings.ToUpper(s); len(s) != 2 || s == "ZZ" || s == "XX" || s < "AA" || s[1] < 'A' || s == "??" {
		return ""
	}
	return s
}

// known returns a name; empty: there is none.
func known(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// placeOf returns what a row says of a place.
func placeOf(f fields) claim {
	p := claim{country: code(f.at("country")), city: known(f.at("city"))}
	p.region = slices.Contains(f.columns, "city") && (known(f.at("region")) != "" || known(f.at("postal")) != "")
	lat, err1 := strconv.ParseFloat(f.at("lat"), 64)
	lon, err2 := strconv.ParseFloat(f.at("lon"), 64)
	if err1 == nil && err2 == nil && (lat != 0 || lon != 0) {
		p.point, p.lat, p.lon = true, lat, lon
		radius, _ := strconv.Atoi(f.at("radius"))
		p.radius = uint16(radius)
	}
	p.unnamed = !slices.Contains(f.columns, "city") && !slices.Contains(f.columns, "region")
	return p
}

// as returns what a row says of a network.
func as(t *testing.T, f fields) asn.AS {
	s, _, _ := strings.Cut(f.at("as"), "_")
	s, _, _ = strings.Cut(s, ",")
	s = strings.TrimPrefix(s, "AS")
	if known(s) == "" {
		return asn.AS{}
	}
	high, low, point := strings.Cut(s, ".")
	n, err := strconv.ParseUint(high, 10, 32)
	require.NoError(t, err)
	if point {
		l, err := strconv.ParseUint(low, 10, 16)
		require.NoError(t, err)
		n = n<<16 | l
	}
	if n == 0 {
		return asn.AS{}
	}
	return asn.AS{Number: uint32(n), Org: known(f.at("org"))}
}

// A location is a row of GeoLite2's locations.
type location struct {
	country, city string
	region        bool
}

// locations returns a random file of locations, and what it has.
func locations(r *rand.Rand) ([]byte, map[string]location) {
	var b bytes.Buffer
	c := csv.NewWriter(&b)
	c.Write(strings.Split("geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,subdivision_1_iso_code,subdivision_1_name,"+
		"subdivision_2_iso_code,subdivision_2_name,city_name,metro_code,time_zone,is_in_european_union", ","))
	all := map[string]location{}
	for i := range 50 {
		id, l, region := strconv.Itoa(i), location{country: pick(r, "DE", "FR", "US", "EU", "")}, ""
		if r.IntN(2) == 0 {
			l.region, region = true, "X"
			if r.IntN(2) == 0 {
				l.city = pick(r, names...)
			}
		}
		all[id] = l
		c.Write([]string{id, "en", "EU", "Europe", l.country, "Name, of it", region, "", "", "", l.city, "", "Europe/Berlin", "0"})
	}
	c.Flush()
	return b.Bytes(), all
}

// TestTexts compares tables of lines with what encoding/csv reads of them and the smallest row
// that holds an address.
func TestTexts(t *testing.T) {
	for _, x := range texts {
		kinds := map[string][]bool{"both": {true, false}}
		if x.split {
			kinds = map[string][]bool{"IPv4": {true}, "IPv6": {false}}
		}
		for kind, families := range kinds {
			t.Run(x.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				r := random.For(t)
				data := x.written(r, families...)
				name := written(t, "GeoLite2-City-Blocks-IPv4.csv", data)
				var where map[string]location
				if x.has("id") {
					var l []byte
					l, where = locations(r)
					require.NoError(t, writeBeside(name, "GeoLite2-City-Locations-en.csv", l))
				}
				x.compare(t, name, x.parsed(t, bytes.NewReader(data)), where)
			})
		}
	}
}

// compare compares a file with its rows.
func (x text) compare(t *testing.T, name string, rows []row[fields], where map[string]location) {
	t.Helper()
	n := lookups
	if x.split {
		n /= 2
	}
	addrs := probes(random.For(t), rows, n)
	if x.has("as") {
		var of []row[asn.AS]
		for _, v := range rows {
			if as := as(t, v.says); as.Number != 0 {
				of = append(of, row[asn.AS]{v.first, v.last, as})
			}
		}
		db, err := asn.Open(name)
		require.NoError(t, err)
		require.Empty(t, db.Remarks())
		agree(t, addrs, networksOf(db), twinOf(of).find, sameAS)
	}
	if !x.has("country") && !x.has("lat") {
		return
	}
	var of []row[geoip.Place]
	for _, v := range rows {
		f := placeOf(v.says)
		if where != nil {
			l := where[v.says.at("id")]
			f.country, f.city, f.region, f.unnamed = l.country, l.city, l.region || v.says.at("postal") != "", false
			if f.country == "" {
				f.country = where[v.says.at("registered")].country
			}
		}
		if p := f.place(); p.Precision != geoip.Unknown || x.holes {
			of = append(of, row[geoip.Place]{v.first, v.last, p})
		}
	}
	db, err := geoip.Open(name)
	require.NoError(t, err)
	if !x.has("id") { // else names are missing
		require.Empty(t, db.Remarks())
	}
	agree(t, addrs, placesOf(db), twinOf(of).find, samePlace)
}

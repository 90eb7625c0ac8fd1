package layout

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/ranges"
	"github.com/connmapgo/connmap/internal/unpack"
)

// A list is a Sink that keeps what it is given.
type list struct {
	facts []Facts
	rows  []string
}

func (l *list) ID(f Facts) (uint32, error) {
	l.facts = append(l.facts, f)
	return uint32(len(l.facts)), nil
}

func (l *list) Add(r ranges.Range, id uint32) error {
	l.rows = append(l.rows, fmt.Sprintf("%v-%v %s", r.First, r.Last, l.facts[id-1]))
	return nil
}

func (l *list) Add4(first, last ranges.V4, id uint32) error {
	return l.Add(ranges.Range{First: first.Addr(), Last: last.Addr()}, id)
}

func (l *list) Add6(first, last ranges.V6, id uint32) error {
	return l.Add(ranges.Range{First: first.Addr(), Last: last.Addr()}, id)
}

func (l *list) Reserve4(int) {}

func (f Facts) String() string {
	s := ""
	add := func(format string, args ...any) { s += " " + fmt.Sprintf(format, args...) }
	if f.Country != "" {
		add("%s", f.Country)
	}
	if f.Region {
		add("region")
	}
	if f.City != "" {
		add("%s", f.City)
	}
	if f.Point {
		add("%g,%g", f.Lat, f.Lon)
	}
	if f.Radius > 0 {
		add("%d km", f.Radius)
	}
	if f.AS != 0 {
		add("AS%d", f.AS)
	}
	if f.Org != "" {
		add("%s", f.Org)
	}
	if s == "" {
		return "nothing"
	}
	return s[1:]
}

// readFile reads a file as tables do.
func readFile(t testing.TB, name string, sink Sink) (Report, error) {
	return openFile(t, name, func(f *ranges.File) (Report, error) { return Read(f, sink) })
}

// openFile opens a file for a function that reads it.
func openFile[T any](t testing.TB, name string, read func(*ranges.File) (T, error)) (T, error) {
	f, info, err := unpack.Open(name)
	require.NoError(t, err)
	defer f.Close()
	r, err := unpack.Reader(f, Max)
	if err != nil {
		return *new(T), err
	}
	return read(&ranges.File{Reader: r, Name: name, Size: info.Size(), ModTime: info.ModTime(), At: f})
}

func fileOf(data []byte) *ranges.File {
	return &ranges.File{Reader: bufio.NewReaderSize(bytes.NewReader(data), 256<<10), Name: "table", Size: int64(len(data)), At: bytes.NewReader(data)}
}

// tables are small tables in the layouts of those that are published, and what is read of them.
var tables = []struct {
	name, kind, content string
	want                []string
}{
	{"DB-IP city", "DB-IP city CSV",
		"192.0.2.0,192.0.2.127,OC,AU,Queensland,\"South \"\"B\"\", Brisbane\",-27.4767,153.017\n192.0.2.128,192.0.2.255,ZZ,ZZ,,,0,0\n2001:db8::,2001:db8::ffff,EU,NL,,,52.37,4.89\n",
		[]string{`192.0.2.0-192.0.2.127 AU region South "B", Brisbane -27.4767,153.017`, "192.0.2.128-192.0.2.255 nothing", "2001:db8::-2001:db8::ffff NL 52.37,4.89"}},
	{"DB-IP country", "country CSV", "192.0.2.0,192.0.2.255,au\n2001:db8::,2001:db8::1,NL\n", []string{"192.0.2.0-192.0.2.255 AU", "2001:db8::-2001:db8::1 NL"}},
	{"DB-IP AS", "AS CSV", "192.0.2.0,192.0.2.255,64496,\"Example, Inc.\"\n2001:db8::,2001:db8::1,64497,\n", []string{"192.0.2.0-192.0.2.255 AS64496 Example, Inc.", "2001:db8::-2001:db8::1 AS64497"}},
	{"GeoIP AS", "GeoIP AS CSV", "3221225984,3221226111,\"AS64496 Example, Inc.\"\n3221226112,3221226239,\"AS64497\"\n3221226240,3221226495,AS64498 Other\n", []string{"192.0.2.0-192.0.2.127 AS64496 Example, Inc.", "192.0.2.128-192.0.2.255 AS64497", "192.0.3.0-192.0.3.255 AS64498 Other"}},
	{"tor", "country CSV", "# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n3221225984,3221226111,AU\n3221226112,3221226239,??\n", []string{"192.0.2.0-192.0.2.127 AU", "192.0.2.128-192.0.2.255 nothing"}},
	{"iptoasn", "iptoasn TSV", "192.0.2.0\t192.0.2.130\t64496\tUS\tEXAMPLE - A\tB\n192.0.2.131\t192.0.2.255\t0\tNone\tNot routed\n", []string{"192.0.2.0-192.0.2.130 US AS64496 EXAMPLE - A\tB", "192.0.2.131-192.0.2.255 nothing"}},
	{"iptoasn with numbers", "iptoasn TSV", "3221225984\t3221226239\t64496\tUS\tEXAMPLE\n", []string{"192.0.2.0-192.0.2.255 US AS64496 EXAMPLE"}},
	{"iptoasn countries", "country CSV", "192.0.2.0\t192.0.2.255\tUS\n", []string{"192.0.2.0-192.0.2.255 US"}},
	{"connmap", "connmap CSV", "3221225985,3221226238,-33.6629,151.3986\r\n\r\n3325256704,3325256704,52.37403,4.88969\n3325256720,3325256730,,\n3325256740,3325256750,0,0\n",
		[]string{"192.0.2.0-192.0.2.255 -33.6629,151.3986", "198.51.100.0-198.51.100.0 52.37403,4.88969", "198.51.100.16-198.51.100.26 nothing", "198.51.100.36-198.51.100.46 nothing"}},
	{"connmap with names", "CSV with named columns", "start,end,latitude,longitude\n3221225985,3221226238,-33.6629,151.3986\n", []string{"192.0.2.0-192.0.2.255 -33.6629,151.3986"}},
	{"coordinates", "coordinates CSV", "192.0.2.0,192.0.2.255,34.69,135.5\n", []string{"192.0.2.0-192.0.2.255 34.69,135.5"}},
	{"country and coordinates", "coordinates CSV", "192.0.2.0,192.0.2.255,JP,34.69,135.5\n", []string{"192.0.2.0-192.0.2.255 JP 34.69,135.5"}},
	{"GeoIP country", "GeoIP country CSV", "\"192.0.2.0\",\"192.0.2.255\",\"3221225984\",\"3221226239\",\"JP\",\"Japan\"\n", []string{"192.0.2.0-192.0.2.255 JP"}},
	{"GeoIP country with blanks", "GeoIP country CSV", "\"2001:db8::\", \"2001:db8::ff\", \"42540766411282592856903984951653826560\", \"42540766411282592856903984951653826815\", \"JP\", \"Japan\"\n", []string{"2001:db8::-2001:db8::ff JP"}},
	{"sapics with short postal codes", "sapics city CSV", "8.8.8.0,8.8.8.255,JP,Osaka,,Osaka,54,34.69,35.5,Asia/Tokyo\n", []string{"8.8.8.0-8.8.8.255 JP region Osaka 34.69,35.5"}},
	{"IpToCountry", "IpToCountry CSV", "# header\n\"3221225984\",\"3221226239\",\"apnic\",\"1313020800\",\"JP\",\"JPN\",\"Japan\"\n", []string{"192.0.2.0-192.0.2.255 JP"}},
	{"AS numbers with a point", "AS CSV", "192.0.2.0,192.0.2.255,AS1.10,Example\n", []string{"192.0.2.0-192.0.2.255 AS65546 Example"}},
	{"sapics city", "sapics city CSV", "192.0.2.0,192.0.2.255,AU,Queensland,,South Brisbane,4101,-27.4767,153.017,Australia/Brisbane\n", []string{"192.0.2.0-192.0.2.255 AU region South Brisbane -27.4767,153.017"}},
	{"sapics IPv6 in decimal", "sapics city CSV", "42540766411282592856903984951653826560,42540766490510755371168322545197776895,DE,Hesse,,Frankfurt,60313,50.11,8.68,Europe/Berlin\n",
		[]string{"2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff DE region Frankfurt 50.11,8.68"}},
	{"IP2Location DB1", "IP2Location DB1 CSV", "\"0\",\"3221225983\",\"-\",\"-\"\n\"3221225984\",\"3221226239\",\"AU\",\"Australia\"\n", []string{"0.0.0.0-192.0.1.255 nothing", "192.0.2.0-192.0.2.255 AU"}},
	{"IP2Location DB3", "IP2Location DB3 CSV", "\"3221225984\",\"3221226239\",\"AU\",\"Australia\",\"Queensland\",\"Brisbane\"\n", []string{"192.0.2.0-192.0.2.255 AU region Brisbane"}},
	{"IP2Location DB5", "IP2Location DB5 CSV", "\"0\",\"3221225983\",\"-\",\"-\",\"-\",\"-\",\"0.000000\",\"0.000000\"\n\"3221225984\",\"3221226239\",\"AU\",\"Australia\",\"Queensland\",\"Brisbane\",\"-27.467940\",\"153.028090\"\n",
		[]string{"0.0.0.0-192.0.1.255 nothing", "192.0.2.0-192.0.2.255 AU region Brisbane -27.46794,153.02809"}},
	{"IP2Location DB9 of IPv6", "IP2Location DB9 CSV", "\"0\",\"281470681743359\",\"-\",\"-\",\"-\",\"-\",\"0.0\",\"0.0\",\"-\"\n\"281473902969344\",\"281473902969599\",\"AU\",\"Australia\",\"Queensland\",\"Brisbane\",\"-27.5\",\"153\",\"4000\"\n",
		[]string{"::-::fffe:ffff:ffff nothing", "192.0.2.0-192.0.2.255 AU region Brisbane -27.5,153"}},
	{"IP2Location DB11", "IP2Location DB11 CSV", "\"3221225984\",\"3221226239\",\"AU\",\"Australia\",\"Queensland\",\"Brisbane\",\"-27.5\",\"153\",\"4000\",\"+10:00\"\n", []string{"192.0.2.0-192.0.2.255 AU region Brisbane -27.5,153"}},
	{"IP2Location AS", "IP2Location ASN CSV", "\"3221225984\",\"3221226239\",\"192.0.2.0/24\",\"64496\",\"Example\"\n\"3221226240\",\"3221226495\",\"192.0.3.0/24\",\"-\",\"-\"\n", []string{"192.0.2.0-192.0.2.255 AS64496 Example", "192.0.3.0-192.0.3.255 nothing"}},
	{"IPinfo Lite", "IPinfo Lite CSV", "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n192.0.2.0/24,Germany,DE,Europe,EU,AS64496,\"Example, GmbH\",example.org\n192.0.3.7,France,FR,Europe,EU,,,\n",
		[]string{"192.0.2.0-192.0.2.255 DE AS64496 Example, GmbH", "192.0.3.7-192.0.3.7 FR"}},
	{"JSON with a number", "IPinfo Lite JSON", `{"network":"192.0.2.0/24","asn":64496,"as_name":"Example"}` + "\n", []string{"192.0.2.0-192.0.2.255 AS64496 Example"}},
	{"JSON with a mark", "IPinfo Lite JSON", "\ufeff" + `{"network":"192.0.2.0/24","asn":64496}` + "\n", []string{"192.0.2.0-192.0.2.255 AS64496"}},
	{"JSON in two encodings", "IPinfo Lite JSON", `{"network":"192.0.2.0/24","asn":64496,"as_name":"Caf` + "\xe9 é\"}\n", []string{"192.0.2.0-192.0.2.255 AS64496 Café é"}},
	{"IPinfo Lite as JSON", "IPinfo Lite JSON", `{"network":"192.0.2.0/24","country":"Germany","country_code":"DE","asn":"AS64496","as_name":"Example"}` + "\n" + `{"network":"192.0.3.7","country_code":"FR"}`,
		[]string{"192.0.2.0-192.0.2.255 DE AS64496 Example", "192.0.3.7-192.0.3.7 FR"}},
	{"GeoLite2 AS", "GeoLite2 ASN CSV", "network,autonomous_system_number,autonomous_system_organization\n192.0.2.0/24,64496,Caf\xe9\n192.0.3.0/24,64497,Café\n192.0.4.0/24,,\n2001:db8::/32,64498,Six\n",
		[]string{"192.0.2.0-192.0.2.255 AS64496 Café", "192.0.3.0-192.0.3.255 AS64497 Café", "192.0.4.0-192.0.4.255 nothing", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff AS64498 Six"}},
	{"pfx2as", "RouteViews pfx2as", "192.0.2.0\t24\t64496_64497\n192.0.3.0\t25\t64498,64499\n2001:db8::\t32\t64500\n",
		[]string{"192.0.2.0-192.0.2.255 AS64496", "192.0.3.0-192.0.3.127 AS64498", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff AS64500"}},
	{"pyasn", "pyasn TSV", "; IP-ASN32-DAT file\n192.0.2.0/24\t64496\n", []string{"192.0.2.0-192.0.2.255 AS64496"}},
	{"geofeed", "geofeed", "# RFC 8805\n192.0.2.0/25,US,US-CA,Los Angeles,\n192.0.2.128/25,DE\n2001:db8::/32,NL,,Amsterdam,\n",
		[]string{"192.0.2.0-192.0.2.127 US region Los Angeles", "192.0.2.128-192.0.2.255 DE", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff NL Amsterdam"}},
	{"sapics without postal codes", "sapics city CSV", "8.8.8.0,8.8.8.255,JP,Osaka,,Osaka,,34.69,135.5,\n1.0.0.0,1.0.0.255,AU,Queensland,,Brisbane,,-27.4,153.0,\n",
		[]string{"8.8.8.0-8.8.8.255 JP region Osaka 34.69,135.5", "1.0.0.0-1.0.0.255 AU region Brisbane -27.4,153"}},
	{"networks and countries", "country CSV", "192.0.2.0/25,DE\n192.0.2.128/25,FR\n", []string{"192.0.2.0-192.0.2.127 DE", "192.0.2.128-192.0.2.255 FR"}},
	{"names in another order", "CSV with named columns", "City;ASN;Network;CC;Lat;Lon;Accuracy_Radius\nBonn;AS64496;192.0.2.0/24;de;50.7;7.1;20\n", []string{"192.0.2.0-192.0.2.255 DE Bonn 50.7,7.1 20 km AS64496"}},
	{"names between semicolons", "CSV with named columns", "city;network;cc\n\"Bonn; on the \"\"Rhine\"\"\";192.0.2.0/24;\"de\"\n;192.0.3.0/24;FR\n", []string{`192.0.2.0-192.0.2.255 DE Bonn; on the "Rhine"`, "192.0.3.0-192.0.3.255 FR"}},
	{"names behind a comment", "CSV with named columns", "# made by hand\n\nnetwork,country_code\n192.0.2.0/24,DE\n", []string{"192.0.2.0-192.0.2.255 DE"}},
	{"quoted", "DB-IP city CSV", "\"192.0.2.0\",\"192.0.2.255\",\"EU\",\"DE\",\"NRW\",\"Bonn\",\"50.7\",\"7.1\"\n", []string{"192.0.2.0-192.0.2.255 DE region Bonn 50.7,7.1"}},
	{"UTF-8 with a mark", "country CSV", "\ufeff192.0.2.0,192.0.2.255,AU\n", []string{"192.0.2.0-192.0.2.255 AU"}},
	{"leading zeros", "country CSV", "192.000.002.000,192.000.002.255,AU\n", []string{"192.0.2.0-192.0.2.255 AU"}},
}

// TestNotThese: tables whose columns only look like those of a known layout are refused.
func TestNotThese(t *testing.T) {
	row := func(i int, rest string) string { return fmt.Sprintf("20.0.%d.0,20.0.%d.255,%s\n", i, i, rest) }
	for name, rows := range map[string][]string{
		"regions and postal": {"US,New York,New York City,10001,40.7,-74.0", "US,California,San Jose,95101,37.3,-121.9", "DE,Bayern,Munich,80331,48.1,11.6"},
		"swapped":            {"AS,JP,Tokyo,Tokyo,139.69,35.68", "EU,GB,England,London,-0.13,51.51", "EU,DE,Bayern,Munich,11.58,48.14", "NA,US,New York,New York,-74.0,40.7", "EU,FR,Paris,Paris,2.35,48.85", "SA,BR,Rio,Rio,-43.2,-22.9", "EU,ES,Madrid,Madrid,-3.7,40.4"},
	} {
		var text strings.Builder
		for i := range 40 {
			text.WriteString(row(i, rows[i%len(rows)]))
		}
		_, err := Recognise(fileOf([]byte(text.String())))
		assert.ErrorIs(t, err, ErrUnknown, name)
	}
	// These are what they look like.
	for name, rows := range map[string][]string{
		"GeoIP country CSV":   {"NA,North America,US,United States", "EU,Europe,DE,Germany", "AS,Asia,JP,Japan", "NA,North America,CA,Canada"},
		"IP2Location DB3 CSV": {"NA,Namibia,Khomas,Windhoek", "AS,American Samoa,Eastern District,Pago Pago", "FR,France,Bretagne,Brest"},
		"IP2Location DB5 CSV": {"US,United States of America,New York,New York City,40.7,-74.0", "-,-,-,-,0.0,0.0", "US,United States of America,California,San Jose,37.3,-121.9"},
		"IP2Location DB1 CSV": {"NA,Namibia", "NA,Namibia"},
		"DB-IP city CSV":      {"AS,JP,Tokyo,Tokyo,35.68,139.69", "NA,US,New York,New York,40.7,-74.0"},
	} {
		var text strings.Builder
		for i := range 40 {
			text.WriteString(row(i, rows[i%len(rows)]))
		}
		k, err := Recognise(fileOf([]byte(text.String())))
		require.NoError(t, err, name)
		assert.Equal(t, name, k.Name)
	}
}

// TestNetworksInside: a network that is written as an address inside counts as a whole, and that is said.
func TestNetworksInside(t *testing.T) {
	l := &list{}
	r, err := Read(fileOf([]byte("192.0.2.7/24,DE\n2001:db8::1/32,FR\n198.51.100.0/24,NL\n")), l)
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.0-192.0.2.255 DE", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff FR", "198.51.100.0-198.51.100.255 NL"}, l.rows)
	assert.Equal(t, []string{"2 networks are written as an address inside: the whole network counts"}, r.Remarks)
}

// TestFuture: a date that has not come yet is none, which is said.
func TestFuture(t *testing.T) {
	l := &list{}
	r, err := Read(fileOf([]byte("# Generated: Tue, 01 Jan 2999 00:00:00 GMT\n192.0.2.0/24,DE\n")), l)
	require.NoError(t, err)
	assert.True(t, r.Date.IsZero())
	assert.Equal(t, []string{"its date 2999-01-01 is in the future, so it does not count"}, r.Remarks)
}

func TestLayouts(t *testing.T) {
	for _, tt := range tables {
		t.Run(tt.name, func(t *testing.T) {
			l := &list{}
			r, err := Read(fileOf([]byte(tt.content)), l)
			require.NoError(t, err)
			assert.Equal(t, tt.kind, r.Kind.Name)
			assert.Equal(t, tt.want, l.rows)
			assert.Equal(t, int64(len(tt.want)), r.Rows)
			assert.Empty(t, r.Remarks)
			k, err := Recognise(fileOf([]byte(tt.content)))
			require.NoError(t, err)
			assert.Equal(t, r.Kind, k)
			assert.Equal(t, strings.Contains(strings.Join(tt.want, " "), "AS6"), k.Networks, "networks")
		})
	}
}

// TestGeofeedHoles: in a geofeed a network of which nothing is said is a hole in those around it.
func TestGeofeedHoles(t *testing.T) {
	for content, want := range map[string]string{
		"192.0.2.0/24,DE,,,\n192.0.2.128/25,,,,\n2001:db8::/32,NL,,,\n2001:db8:1::/48,ZZ,,,\n": "DE  NL ",
		"192.0.2.0,192.0.2.255,DE\n192.0.2.128,192.0.2.255,ZZ\n2001:db8::,2001:db8:1::,NL\n":   "DE DE NL NL",
	} {
		var b ranges.Builder
		codes := &countries{Builder: &b}
		_, err := Read(fileOf([]byte(content)), codes)
		require.NoError(t, err)
		v4, v6 := b.Resolve()
		var got []string
		for _, a := range []string{"192.0.2.1", "192.0.2.129", "2001:db8::1", "2001:db8:1::"} {
			if a := netip.MustParseAddr(a); a.Is4() {
				got = append(got, codes.names[ranges.Find(v4, ranges.Key4(a))])
			} else {
				got = append(got, codes.names[ranges.Find(v6, ranges.Key6(a))])
			}
		}
		assert.Equal(t, want, strings.Join(got, " "), content)
	}
}

// TestBareNetworks: a network without a length is no single address if another column has its length or
// its end; where it is not known what a column says, the table is refused.
func TestBareNetworks(t *testing.T) {
	for header, want := range map[string]string{
		"network,netmask,country\n20.0.0.0,255.255.0.0,JP":                                                          "no length",
		"network,wildcard,country\n20.0.0.0,0.0.255.255,JP":                                                         "no length",
		"network,netmask,country\n20.0.0.0,0xffff0000,JP":                                                           "no length",
		"network,mask,country_code\n20.0.0.0,/16,JP":                                                                "20.0.0.0-20.0.255.255 JP",
		"network,hosts,country\n20.0.0.0,65536,JP":                                                                  "no length",
		"network,broadcast,country\n20.0.0.0,20.0.255.255,JP":                                                       "no length",
		"network\tsize\tasn\n20.0.0.0\t65536\t64500":                                                                "no length",
		"network,mask,autonomous_system_number\n20.0.0.0,255.255.0.0,1":                                             "no length",
		"network,mask,country\n20.0.0.0,16,JP":                                                                      "20.0.0.0-20.0.255.255 JP",
		"network,prefixlen,country\n20.0.0.0,16,JP\n2001:db8::,32,JP":                                               "20.0.0.0-20.0.255.255 JP|2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff JP",
		"\"prefix\",\"length\",\"country\"\n\"20.0.0.0\",\"16\",\"JP\"":                                             "20.0.0.0-20.0.255.255 JP",
		"prefix\tlength\tasn\n20.0.0.0\t16\t64500":                                                                  "20.0.0.0-20.0.255.255 AS64500",
		"network,cidr,country\n20.0.0.0,16,JP":                                                                      "20.0.0.0-20.0.255.255 JP",
		"network,end_ip,country_code\n20.0.0.0,20.0.255.255,JP":                                                     "20.0.0.0-20.0.255.255 JP",
		"start_ip,end_ip,network,country\n20.0.0.0,20.0.255.255,20.0.0.0,JP":                                        "20.0.0.0-20.0.255.255 JP",
		"start_ip,end_ip,cidr,asn,as\n20.0.0.0,20.0.0.255,20.0.0.0/16,64500,One":                                    "20.0.0.0-20.0.255.255 AS64500 One",
		"network,country\n20.0.0.1,JP\n20.0.0.7,JP":                                                                 "20.0.0.1-20.0.0.1 JP|20.0.0.7-20.0.0.7 JP",
		"network,hostname,country\n20.0.0.1,a.example,JP":                                                           "20.0.0.1-20.0.0.1 JP",
		"network,mask,country\n20.0.0.0/16,255.255.0.0,JP":                                                          "20.0.0.0-20.0.255.255 JP",
		"sep=,\nnetwork,country\n20.0.0.0/16,JP\n20.1.0.0/16,JP":                                                    "20.0.0.0-20.0.255.255 JP|20.1.0.0-20.1.255.255 JP",
		"null\n\n# words\n{\"network\":\"20.0.0.0/16\",\"asn\":64500}\n{\"network\":\"20.1.0.0/16\",\"asn\":64500}": "20.0.0.0-20.0.255.255 AS64500|20.1.0.0-20.1.255.255 AS64500",
	} {
		l := &list{}
		_, err := Read(fileOf([]byte(header+"\n")), l)
		if want == "no length" {
			assert.ErrorIs(t, err, ErrUnknown, header)
			assert.ErrorContains(t, err, want, header)
			continue
		}
		require.NoError(t, err, header)
		assert.Equal(t, want, strings.Join(l.rows, "|"), header)
	}
}

// TestBadRows: a bad row is left out and reported; a file of which most rows are bad is
// refused, and so is what fits no layout.
func TestBadRows(t *testing.T) {
	good := strings.Repeat("192.0.2.0,192.0.2.255,AU\n", 20)
	json := `{"network":"192.0.2.0/24","asn":64496}` + "\n"
	for _, tt := range []struct {
		name, content string
		rows          int64
		remarks       []string
		err           string
	}{
		{"bad line", good + "x\n" + good + "192.0.2.0,192.0.2.255,Australia\n" + good, 60, []string{"2 rows are left out: line 21: 1 columns, expected 3"}, ""},
		{"cut", good + "192.0.2", 20, []string{"it is truncated in its last line", "1 row is left out: line 21: 1 columns, expected 3"}, ""},
		{"perhaps cut", strings.Repeat(good, 50) + "192.0.2.0,192.0.2.255,AU", 1001, []string{"it may be truncated: its last line has no end"}, ""},
		{"written by hand", good + "192.0.2.0,192.0.2.255,AU", 21, nil, ""},
		{"two families", good + "192.0.2.0,2001:db8::,AU\n", 20, []string{`1 row is left out: line 21: "192.0.2.0" and "2001:db8::" are of two families`}, ""},
		{"backwards", good + "192.0.2.9,192.0.2.8,AU\n", 20, []string{"1 row is left out: line 21: last address 192.0.2.8 is before first 192.0.2.9"}, ""},
		{"nearly all bad", good + strings.Repeat("x,y\n", 40), 0, nil, "the layout is not known: 3 columns between commas"},
		{"most bad later", strings.Repeat(good, 200) + strings.Repeat("x,y\n", 5000), 0, nil, "5,000 of 9,000 rows cannot be read: line 4001: 2 columns, expected 3"},
		{"a sixth bad", strings.Repeat("192.0.2.0,192.0.2.255,AU\n192.0.3.0,192.0.3.255,Australia\n"+good[:4*25], 6), 30, []string{`6 rows are left out: line 2: "Australia" is not a country code of two letters`}, ""},
		{"masks", "192.0.2.0,255.255.255.0,AU\n198.51.100.7,255.255.255.255,AU\n", 0, nil, `the second column has netmasks, such as in "192.0.2.0,255.255.255.0,AU"`},
		{"no mask", "224.0.0.0,255.255.255.255,ZZ\n", 1, nil, ""},
		{"no masks", "192.0.2.0,255.255.255.0,AU\n192.0.2.0,192.0.2.255,AU\n", 2, nil, ""},
		{"letter", "Dear Sir,\n", 0, nil, "the layout is not known: 2 columns between commas"},
		{"names alone", "network,asn\n", 0, nil, "it has no rows: the file is truncated"},
		{"other names", "network,colour\n192.0.2.0/24,red\n", 0, nil, `the columns "network,colour" tell neither a place nor an AS number`},
		{"company", "start_ip,end_ip,name,domain,type,country\n192.0.2.0,192.0.2.255,Example,example.org,hosting,JP\n", 0, nil, "tell neither a place nor an AS number"},
		{"carrier", "network,name,country_code,mcc,mnc\n192.0.2.0/24,Example,JP,440,10\n", 0, nil, "tell neither a place nor an AS number"},
		{"longer line", good + strings.Repeat("x,", 20<<20) + "\n" + good + "x\n" + strings.Repeat("y", 9<<20), 40, []string{"3 rows are left out: line 21: the line has more than 1048576 bytes"}, ""},
		{"long line of JSON", strings.Repeat(json, 20) + `{"network":"192.0.2.0/24","asn":64496,"x":"` + strings.Repeat("x", 1<<20) + "\"}\n" + json, 21, []string{"1 row is left out: line 21: the line has more than 262144 bytes"}, ""},
		{"long line", good + strings.Repeat("x", 3<<19) + "\n" + good, 40, []string{"1 row is left out: line 21: the line has more than 1048576 bytes"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &list{}
			r, err := Read(fileOf([]byte(tt.content)), l)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.rows, r.Rows)
			assert.Equal(t, tt.remarks, r.Remarks)
			assert.Len(t, l.rows, int(tt.rows))
		})
	}
}

// FuzzRead: whatever a file holds, reading ends, without a panic, with rows that are ranges.
func FuzzRead(f *testing.F) {
	for _, tt := range tables {
		f.Add([]byte(tt.content))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &list{}
		r, err := Read(fileOf(data), l)
		if err != nil {
			return
		}
		assert.NotZero(t, r.Rows)
		assert.True(t, r.Kind.Places || r.Kind.Networks, "%v", r.Kind)
		assert.LessOrEqual(t, int64(len(l.rows)), r.Rows)
	})
}

func writeFile(name string, data []byte) error { return os.WriteFile(name, data, 0o600) }

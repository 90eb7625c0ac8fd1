package layout

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// A role is what a column says.
type role uint8

const (
	other role = iota // nothing that is read
	first
	last
	network
	length // of the network whose address the column before has
	continent
	country
	countryName
	region
	city
	lat
	lon
	postal
	radius
	as
	org
	asOrg      // a number and a name, such as AS64496 Example
	id         // geoname_id, of GeoLite2's locations
	registered // likewise of the country in which the network is registered
	offset     // from UTC, such as +09:00; not read
	zone       // a time zone such as Asia/Tokyo; not read
	roles
)

// A text is how a file of lines is read.
type text struct {
	kind   Kind
	sep    byte
	least  int    // columns that a row has at least
	hosts  bool   // networks may lack their first and last address; see repair
	header string // the line that names the columns; empty: none does
	// at is where each role's column is; -1: nowhere. The last column of a table separated
	// by tabs goes on to the end of the line.
	at        [roles]int
	count     int
	decimal6  bool // all addresses are decimal ones of IPv6
	locations map[string]location
	unnamed   atomic.Int64 // places that locations lacks
	remarks   []string
}

// A shape is a layout without a line that names the columns.
type shape struct {
	name    string
	sep     byte
	columns string // roles by name; those in brackets may be missing
	decimal bool   // addresses are decimal
	hosts   bool
}

var shapes = []shape{
	{name: "DB-IP city CSV", sep: ',', columns: "first last continent country region city lat lon"},
	{name: "IP2Location DB11 CSV", sep: ',', columns: "first last country countryName region city lat lon postal offset"},
	{name: "IP2Location DB9 CSV", sep: ',', columns: "first last country countryName region city lat lon postal"},
	{name: "IP2Location DB5 CSV", sep: ',', columns: "first last country countryName region city lat lon"},
	{name: "IP2Location DB3 CSV", sep: ',', columns: "first last country countryName region city"},
	{name: "IP2Location DB1 CSV", sep: ',', columns: "first last country countryName"},
	{name: "IP2Location ASN CSV", sep: ',', columns: "first last network as org"},
	{name: "sapics city CSV", sep: ',', columns: "first last country region region city postal lat lon zone"},
	{name: "connmap CSV", sep: ',', columns: "first last lat lon", decimal: true, hosts: true},
	{name: "coordinates CSV", sep: ',', columns: "first last lat lon"},
	{name: "coordinates CSV", sep: ',', columns: "first last country lat lon"},
	{name: "GeoIP country CSV", sep: ',', columns: "first last other other country countryName"},
	{name: "IpToCountry CSV", sep: ',', columns: "first last other other country other countryName"},
	{name: "AS CSV", sep: ',', columns: "first last as org"},
	{name: "GeoIP AS CSV", sep: ',', columns: "first last asOrg"},
	{name: "country CSV", sep: ',', columns: "first last country"},
	{name: "country CSV", sep: '\t', columns: "first last country"},
	{name: IPtoASN, sep: '\t', columns: "first last as country [org]"},
	{name: "RouteViews pfx2as", sep: '\t', columns: "network length as"},
	{name: "pyasn TSV", sep: '\t', columns: "network as"},
	{name: "country CSV", sep: ',', columns: "network country"},
	{name: Geofeed, sep: ',', columns: "network country [region] [city] [postal]"},
}

var roleNames = [roles]string{"other", "first", "last", "network", "length", "continent", "country", "countryName",
	"region", "city", "lat", "lon", "postal", "radius", "as", "org", "asOrg", "id", "registered", "offset", "zone"}

// headings are the names of columns in files whose first line has them. Of several columns
// of one role, that of the name that stands here first counts.
var headings = map[role][]string{
	network:     {"network", "cidr", "prefix", "ip_network", "ip_range", "range"},
	first:       {"start_ip", "ip_start", "first_ip", "ip_from", "ip_range_start", "range_start", "start_address", "network_start_ip", "first", "from", "start"},
	last:        {"end_ip", "ip_end", "last_ip", "ip_to", "ip_range_end", "range_end", "end_address", "network_last_ip", "last", "to", "end"},
	country:     {"country_code", "country_iso_code", "cc", "iso_code", "country_code2", "alpha2", "country"},
	countryName: {"country_name"},
	region:      {"region", "region_name", "state", "state1", "stateprov", "province", "subdivision_1_name", "subdivision_1_iso_code", "subdivision"},
	city:        {"city", "city_name", "town"},
	lat:         {"latitude", "lat"},
	lon:         {"longitude", "lon", "lng", "long"},
	postal:      {"postal_code", "postal", "postcode", "zip", "zip_code", "zipcode"},
	radius:      {"accuracy_radius", "radius"},
	as:          {"autonomous_system_number", "asn", "as_number", "asnumber", "as"},
	org:         {"autonomous_system_organization", "as_name", "as_org", "asn_org", "as_organization", "organization", "organisation", "isp", "org", "holder", "as_holder", "description", "name", "as"},
	length:      {"prefixlen", "prefix_len", "prefix_length", "length", "masklen", "mask_len", "bits", "mask", "netmask", "cidr", "prefix"},
	id:          {"geoname_id"},
	registered:  {"registered_country_geoname_id"},
}

// named returns the text of a line that names the columns, if it names enough. The lines after
// it tell what stands in them.
func named(line []byte, sep byte, rows [][]byte) (*text, bool, error) {
	t := &text{sep: sep, header: string(line)}
	for r := range t.at {
		t.at[r] = -1
	}
	fields := appendFields(nil, line, sep)
	t.count, t.least = len(fields), len(fields)
	names := make([]string, len(fields))
	for i, f := range fields {
		if f = bytes.TrimSpace(f); isAddress(f) || isDigits(f) {
			return nil, false, nil // a row
		}
		names[i] = strings.ReplaceAll(strings.ToLower(strings.Trim(string(f), `" `)), " ", "_")
	}
	for r, known := range headings {
		for _, n := range known {
			if i := slices.Index(names, n); i >= 0 {
				t.at[r] = i
				break
			}
		}
	}
	if t.at[network] < 0 && (t.at[first] < 0 || t.at[last] < 0) {
		return nil, false, nil
	}
	if t.at[org] == t.at[as] {
		t.at[org] = -1
	}
	if t.at[network] < 0 {
		t.at[length] = -1
	} else if err := t.bareNetworks(names, rows); err != nil {
		return nil, false, err
	}
	// The layout of connmap's ipv4.csv with names.
	t.hosts = slices.Equal(names, []string{"start", "end", "latitude", "longitude"})
	t.kind = Kind{Name: headedName(names, t), Places: (t.has(country) || t.has(lat) && t.has(lon) || t.has(id)) && !ofHolders(names), Networks: t.has(as)}
	return t, true, nil
}

// bareNetworks finds out what belongs to the networks of a table. Those without a length may have it
// in another column, or their last address. It is an error if another column may say it in
// some other way.
func (t *text) bareNetworks(names []string, rows [][]byte) error {
	column := func(i int, fits func(f []byte) bool) bool {
		n := 0
		for _, row := range rows {
			if f := appendFields(nil, row, t.sep); i < len(f) {
				if !fits(clean(f[i])) {
					return false
				}
				n++
			}
		}
		return n > 0
	}
	end, bits, from := t.at[last], t.at[length], t.at[first]
	t.at[first], t.at[last], t.at[length] = -1, -1, -1
	if !column(t.at[network], isAddress) {
		return nil
	}
	isBits := func(f []byte) bool { return is(length, bytes.TrimPrefix(f, []byte("/")), false) }
	switch {
	case from >= 0 && end >= 0 && column(from, isAddress) && column(end, isAddress):
		t.at[first], t.at[last], t.at[network] = from, end, -1
	case end >= 0 && column(end, isAddress):
		t.at[first], t.at[last], t.at[network] = t.at[network], end, -1
	case bits >= 0 && bits != t.at[network] && column(bits, isBits):
		t.at[length] = bits
	default:
		for i, name := range names {
			isSize := slices.Contains(headings[length], name)
			if !slices.Contains(t.at[:], i) && (isSize || column(i, isAddress) || column(i, isDigits)) {
				return fmt.Errorf("%w: the networks of the column %q have no length, and it is not known whether %q tells it: write networks such as 192.0.2.0/24, or first and last addresses", ErrUnknown, names[t.at[network]], name)
			}
		}
	}
	return nil
}

// ofHolders reports whether columns are those of a table about companies, carriers, contacts or
// proxies. The country in such a table is not that of the addresses; see isOther.
func ofHolders(names []string) bool {
	has := func(name string) bool { return slices.Contains(names, name) }
	return has("domain") && has("type") || slices.ContainsFunc([]string{"mcc", "mnc", "carrier", "carrier_name", "company", "company_name", "abuse", "email",
		"phone", "vpn", "proxy", "tor", "relay", "is_vpn", "is_proxy", "is_tor", "anonymous", "is_anonymous"}, has)
}

// headedName is what a file is called by the names of its columns.
func headedName(names []string, t *text) string {
	has := func(name string) bool { return slices.Contains(names, name) }
	switch {
	case has("autonomous_system_number"):
		return "GeoLite2 ASN CSV"
	case has("geoname_id") && has("latitude"):
		return "GeoLite2 city CSV"
	case has("geoname_id"):
		return "GeoLite2 country CSV"
	case has("network") && has("country_code") && has("as_name"):
		return "IPinfo Lite CSV"
	}
	return "CSV with named columns"
}

func (t *text) has(r role) bool { return t.at[r] >= 0 }

// field returns a column of a row, or nil.
func (t *text) field(f [][]byte, r role) []byte {
	if i := t.at[r]; i >= 0 && i < len(f) {
		return f[i]
	}
	return nil
}

// text returns how files of the shape are read.
func (s shape) text() *text {
	t := &text{sep: s.sep, hosts: s.hosts}
	for r := range t.at {
		t.at[r] = -1
	}
	for i, c := range strings.Fields(s.columns) {
		optional := strings.HasPrefix(c, "[")
		r := role(slices.Index(roleNames[:], strings.Trim(c, "[]")))
		if r == network && t.at[first] >= 0 {
			r = other // it says again what first and last do
		}
		if t.at[r] < 0 {
			t.at[r] = i
		}
		if t.count++; !optional {
			t.least++
		}
	}
	t.kind = Kind{Name: s.name, Places: t.has(country) || t.has(lat), Networks: t.has(as) || t.has(asOrg)}
	return t
}

// fits reports whether a line can be a row of the shape.
func (s shape) fits(f [][]byte) bool {
	columns := strings.Fields(s.columns)
	least := len(columns) - strings.Count(s.columns, "[")
	if len(f) < least || len(f) > len(columns) && !(s.sep == '\t' && strings.HasSuffix(s.columns, "org]")) {
		return false
	}
	filled := [roles]bool{}
	for i, c := range columns[:min(len(f), len(columns))] {
		r := role(slices.Index(roleNames[:], strings.Trim(c, "[]")))
		if !is(r, f[i], s.decimal) {
			return false
		}
		filled[r] = len(f[i]) > 0
	}
	return filled[lat] == filled[lon] // else they stand in other columns
}

// is reports whether a field can be of a column of a role.
func is(r role, f []byte, decimal bool) bool {
	switch r {
	case first, last:
		return isAddress(f) && (!decimal || isDigits(f))
	case network:
		_, ok := parseNetwork(f)
		return ok
	case length:
		return isDigits(f) && len(f) <= 3
	case continent:
		switch string(f) {
		case "AF", "AN", "AS", "EU", "NA", "OC", "SA", "ZZ", "":
			return true
		}
		return false
	case country:
		_, ok := parseCountry(f)
		return ok
	case countryName:
		return len(f) != 2 && !isDigits(f)
	case lat:
		_, ok := coordinate(f, 90)
		return ok || len(f) == 0
	case lon:
		_, ok := coordinate(f, 180)
		return ok || len(f) == 0
	case asOrg:
		number, _, named := bytes.Cut(f, []byte(" "))
		return named && len(number) > 2 && isLetter(number[0]) && is(as, number, decimal)
	case offset:
		return len(f) < 2 || f[0] == '+' || f[0] == '-'
	case zone:
		return len(f) < 2 || isLetter(f[0])
	case as:
		_, ok := parseAS(f)
		return ok && len(f) > 0 && (isLetter(f[0]) || bytes.IndexByte(f, '.') < 0)
	}
	return true
}

func isAddress(f []byte) bool {
	_, ok := parseAddr(f)
	return ok
}

// samples returns the first lines that are no comments. If head is not the whole file, its
// last line may be cut and does not count.
func samples(head []byte) (lines [][]byte) {
	whole := len(head) < sample
	head = bytes.TrimPrefix(head, mark)
	for line := range bytes.Lines(head) {
		if !whole && line[len(line)-1] != '\n' && len(lines) > 0 {
			break
		}
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) > 0 && !isComment(line) {
			lines = append(lines, line)
		}
		if len(lines) == maxSamples {
			break
		}
	}
	return lines
}

const maxSamples = 100

var mark = []byte("\xef\xbb\xbf") // some programs begin texts of UTF-8 with it

func isComment(line []byte) bool { return line[0] == '#' || line[0] == ';' }

// recogniseText returns how a file that begins with head is read.
func recogniseText(head []byte) (*text, error) {
	lines := samples(head)
	if len(lines) == 0 {
		return nil, fmt.Errorf("%w: no line has anything; %s", ErrUnknown, Understood)
	}
	// A line about the file may stand before the one that names the columns.
	for i, line := range lines[:min(len(lines), 3)] {
		for _, sep := range []byte{',', '\t', ';'} {
			t, ok, err := named(line, sep, lines[i+1:])
			switch {
			case err != nil:
				return nil, err
			case !ok || bytes.IndexByte(line, 0) >= 0:
			case !t.kind.Places && !t.kind.Networks:
				return nil, fmt.Errorf("%w: the columns %.200q tell neither a place nor an AS number; %s", ErrUnknown, line, Understood)
			default:
				return t, nil
			}
		}
	}
	best, most := -1, 0
	var f [][]byte
	for i, s := range shapes {
		n, codes := 0, codes{}
		for _, line := range lines {
			if f = appendFields(f[:0], line, s.sep); s.fits(f) {
				n++
				codes.add(s, f)
			}
		}
		if n > most && !codes.bad() {
			best, most = i, n
		}
	}
	// Of a table most lines fit. A single one may be cut off.
	if best < 0 || most*4 < len(lines)*3 && most < len(lines)-1 {
		return nil, fmt.Errorf("%w: %s; %s", ErrUnknown, seen(lines), Understood)
	}
	t := shapes[best].text()
	if t.has(first) && haveMasks(lines, t) {
		return nil, fmt.Errorf("%w: the second column has netmasks, such as in %.80q: write networks such as 192.0.2.0/24, or first and last addresses", ErrUnknown, lines[0])
	}
	if t.has(lat) && haveSwapped(lines, t) {
		return nil, fmt.Errorf("%w: its latitudes are more than 90 degrees where its longitudes are less, such as in %.80q: write the latitude first, or name the columns in the first line", ErrUnknown, lines[0])
	}
	t.decimal6 = t.has(first) && decimal6(lines, t)
	return t, nil
}

// codes are the codes of countries in lines, with their names.
type codes map[string]map[string]bool

// add takes in a line of a shape.
func (c codes) add(s shape, f [][]byte) {
	code, name := "", ""
	for i, column := range strings.Fields(s.columns)[:min(len(f), len(strings.Fields(s.columns)))] {
		switch column {
		case "continent":
			return
		case "country":
			code = strings.ToUpper(string(f[i]))
		case "countryName":
			name = string(f[i])
		}
	}
	if code == "" || code == "-" || code == "ZZ" {
		return
	}
	if c[code] == nil {
		c[code] = make(map[string]bool)
	}
	c[code][name] = true
}

// bad reports whether they are none: one has several names, as where those of regions stand, or all
// are those of continents.
func (c codes) bad() bool {
	continents := 0
	for code, names := range c {
		if len(names) > 1 {
			return true
		}
		if is(continent, []byte(code), false) {
			continents++
		}
	}
	return continents > 1 && continents == len(c)
}

// haveSwapped reports whether latitude and longitude stand in each other's columns.
func haveSwapped(lines [][]byte, t *text) bool {
	n := 0
	for _, line := range lines {
		f := appendFields(nil, line, t.sep)
		y, x := t.field(f, lat), t.field(f, lon)
		_, north := coordinate(y, 90)
		_, far := coordinate(y, 180)
		if _, near := coordinate(x, 90); !north && far && near {
			n++
		}
	}
	return n*20 > len(lines)
}

// haveMasks reports whether the last addresses of all lines are netmasks of their first ones.
func haveMasks(lines [][]byte, t *text) bool {
	some := false // 224.0.0.0 to 255.255.255.255 is a range
	for _, line := range lines {
		f := appendFields(nil, line, t.sep)
		if len(f) <= t.at[last] {
			continue
		}
		from, ok1 := parseAddr(f[t.at[first]])
		to, ok2 := parseAddr(f[t.at[last]])
		host := ^uint32(to.v4)
		if ok1 && ok2 && (from.is6 || to.is6 || to.v4>>31 == 0 || host&(host+1) != 0 || uint32(from.v4)&host != 0) {
			return false
		}
		some = some || ok1 && ok2 && host != 0
	}
	return some
}

// decimal6 reports whether the addresses of lines are decimal ones of IPv6.
func decimal6(lines [][]byte, t *text) bool {
	six := false
	for _, line := range lines {
		f := appendFields(nil, line, t.sep)
		if len(f) <= t.at[last] {
			continue
		}
		one, two := f[t.at[first]], f[t.at[last]]
		if !isDigits(one) || !isDigits(two) {
			return false
		}
		six = six || len(two) > 10
	}
	return six
}

// seen describes lines of no known layout.
func seen(lines [][]byte) string {
	sep, n := byte(','), 0
	for _, s := range []byte{',', '\t', ';', '|'} {
		if c := len(appendFields(nil, lines[0], s)); c > n {
			sep, n = s, c
		}
	}
	by := map[byte]string{',': "commas", '\t': "tabs", ';': "semicolons", '|': "bars"}[sep]
	if n == 1 {
		return fmt.Sprintf("the first line is %.80q", lines[0])
	}
	return fmt.Sprintf("%d columns between %s, the first line is %.120q", n, by, lines[0])
}

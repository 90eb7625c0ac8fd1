package compare

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/inserter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/asn"
	"github.com/connmapgo/connmap/geoip"
	"github.com/connmapgo/connmap/internal/random"
)

// mmdbRecord returns a random record of a type of database. Each part may be missing.
func mmdbRecord(r *rand.Rand, kind string) mmdbtype.Map {
	has := func() bool { return r.IntN(4) > 0 }
	m := mmdbtype.Map{}
	if kind == "GeoLite2-ASN" {
		if has() {
			m["autonomous_system_number"] = mmdbtype.Uint32(r.Uint32N(300))
		}
		if has() {
			m["autonomous_system_organization"] = mmdbtype.String(pick(r, names...))
		}
		return m
	}
	if has() {
		m["continent"] = mmdbtype.Map{"code": mmdbtype.String("EU"), "geoname_id": mmdbtype.Uint32(6255148)}
	}
	if has() {
		m["country"] = mmdbtype.Map{"iso_code": mmdbtype.String(pick(r, codes...)), "geoname_id": mmdbtype.Uint32(r.Uint32())}
	}
	if has() {
		m["registered_country"] = mmdbtype.Map{"iso_code": mmdbtype.String(pick(r, codes...)), "is_in_european_union": mmdbtype.Bool(true)}
	}
	if kind == "GeoLite2-Country" {
		return m
	}
	if has() {
		n := mmdbtype.Map{}
		for _, language := range []string{"de", "en", "zh-CN"} {
			if has() {
				n[mmdbtype.String(language)] = mmdbtype.String(pick(r, names...))
			}
		}
		m["city"] = mmdbtype.Map{"names": n}
	}
	if has() {
		l := mmdbtype.Map{"time_zone": mmdbtype.String("Europe/Berlin"), "accuracy_radius": mmdbtype.Uint16(r.UintN(1500))}
		if has() {
			l["latitude"] = mmdbtype.Float64(degrees(r, 90))
			l["longitude"] = mmdbtype.Float64(degrees(r, 180))
		}
		m["location"] = l
	}
	if has() {
		m["postal"] = mmdbtype.Map{"code": mmdbtype.String(pick(r, "53111", "SW1A 1AA"))}
	}
	if has() {
		m["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("NW")}, mmdbtype.Map{"iso_code": mmdbtype.String("X")}}[:r.IntN(3)]
	}
	return m
}

// degrees returns degrees with up to seven decimals.
func degrees(r *rand.Rand, limit int64) float64 {
	unit := pick[int64](r, 1, 10, 10_000, 10_000_000)
	return float64(r.Int64N(2*limit*unit+1)-limit*unit) / float64(unit)
}

// mmdbPlace is a record of places as maxminddb decodes it.
type mmdbPlace struct {
	City struct {
		Names map[string]string `maxminddb:"names"`
	} `maxminddb:"city"`
	Continent  map[string]any `maxminddb:"continent"`
	Country    mmdbCountry    `maxminddb:"country"`
	Registered mmdbCountry    `maxminddb:"registered_country"`
	Location   struct {
		Lat    *float64 `maxminddb:"latitude"`
		Lon    *float64 `maxminddb:"longitude"`
		Radius uint16   `maxminddb:"accuracy_radius"`
	} `maxminddb:"location"`
	Postal struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"postal"`
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
}

type mmdbCountry struct {
	Code string `maxminddb:"iso_code"`
}

func (m mmdbPlace) place() geoip.Place {
	f := claim{country: code(m.Country.Code), city: m.City.Names["en"], region: m.Postal.Code != "" || len(m.Subdivisions) > 0}
	if f.country == "" {
		f.country = code(m.Registered.Code)
	}
	if f.city == "" && len(m.City.Names) > 0 {
		var languages []string
		for l := range m.City.Names {
			languages = append(languages, l)
		}
		f.city = m.City.Names[slices.Min(languages)]
	}
	if l := m.Location; l.Lat != nil && l.Lon != nil && (*l.Lat != 0 || *l.Lon != 0) {
		f.point, f.lat, f.lon, f.radius = true, *l.Lat, *l.Lon, l.Radius
	}
	if m.Continent != nil && f.country == "" && f.city == "" && !f.region {
		f.point = false // the middle of a continent
	}
	return f.place()
}

// readers returns how a MaxMind DB is read by maxminddb: its places and its networks.
func readers(t *testing.T, db *maxminddb.Reader) (func(netip.Addr) geoip.Place, func(netip.Addr) asn.AS) {
	lookup := func(a netip.Addr, m any) {
		if a = inner(a); a.Is6() && db.Metadata.IPVersion == 4 {
			return
		}
		if err := db.Lookup(a).Decode(m); err != nil {
			t.Fatal(err)
		}
	}
	places := func(a netip.Addr) geoip.Place {
		var m mmdbPlace
		lookup(a, &m)
		return m.place()
	}
	nets := func(a netip.Addr) (as asn.AS) {
		var m struct {
			Number uint32 `maxminddb:"autonomous_system_number"`
			Org    string `maxminddb:"autonomous_system_organization"`
		}
		lookup(a, &m)
		if m.Number == 0 {
			return asn.AS{}
		}
		return asn.AS{Number: m.Number, Org: m.Org}
	}
	return places, nets
}

// TestMMDB compares MaxMind DB files with their own reader: random ones with networks in networks,
// with holes and with records that say nothing.
func TestMMDB(t *testing.T) {
	for _, kind := range []string{"GeoLite2-City", "GeoLite2-Country", "GeoLite2-ASN"} {
		for _, o := range []mmdbwriter.Options{
			{IPVersion: 6, RecordSize: 28},
			{IPVersion: 6, RecordSize: 32, DisableIPv4Aliasing: true},
			{IPVersion: 4, RecordSize: 24},
		} {
			t.Run(fmt.Sprintf("%s/IPv%d/%d", kind, o.IPVersion, o.RecordSize), func(t *testing.T) {
				t.Parallel()
				r := random.For(t)
				o.DatabaseType, o.IncludeReservedNetworks = kind, true
				tree, err := mmdbwriter.New(o)
				require.NoError(t, err)
				all := networks(r, 3000, true)
				if o.IPVersion == 6 {
					all = append(all, networks(r, 3000, false)...)
				}
				var records []mmdbtype.Map
				for range 500 {
					records = append(records, mmdbRecord(r, kind))
				}
				var rows []row[int]
				for _, p := range all {
					rows = append(rows, row[int]{p.Addr(), last(p), 0})
					n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
					if r.IntN(8) == 0 {
						err = tree.InsertFunc(n, inserter.Remove)
					} else {
						err = tree.Insert(n, records[r.IntN(len(records))])
					}
					require.NoError(t, err, "%v", p)
				}
				compareMMDB(t, tree, kind == "GeoLite2-ASN", probes(r, rows, lookups/2))
			})
		}
	}
}

// TestMMDBWide: a network that holds all of IPv4 is one of IPv4 too.
func TestMMDBWide(t *testing.T) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-ASN", IncludeReservedNetworks: true, DisableIPv4Aliasing: true})
	require.NoError(t, err)
	_, n, err := net.ParseCIDR("::/3")
	require.NoError(t, err)
	require.NoError(t, tree.Insert(n, mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64496)}))
	r := random.For(t)
	compareMMDB(t, tree, true, probes(r, []row[int]{{netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), 0},
		{netip.MustParseAddr("1::"), netip.MustParseAddr("1fff::"), 0}}, lookups/10))
}

// compareMMDB compares what a tree says of addresses.
func compareMMDB(t *testing.T, tree *mmdbwriter.Tree, ases bool, addrs []netip.Addr) {
	t.Helper()
	var b bytes.Buffer
	_, err := tree.WriteTo(&b)
	require.NoError(t, err)
	compareMMDBFile(t, written(t, "table.mmdb", b.Bytes()), ases, addrs)
}

func compareMMDBFile(t *testing.T, name string, ases bool, addrs []netip.Addr) {
	t.Helper()
	theirs, err := maxminddb.Open(name)
	require.NoError(t, err)
	defer theirs.Close()
	places, nets := readers(t, theirs)
	if ases {
		db, err := asn.Open(name)
		require.NoError(t, err)
		agree(t, addrs, networksOf(db), nets, sameAS)
		return
	}
	db, err := geoip.Open(name)
	require.NoError(t, err)
	agree(t, addrs, placesOf(db), places, samePlace)
}

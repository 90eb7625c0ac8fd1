package main

import (
	"crypto/md5"
	"crypto/sha256"
	"hash"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A set is a data set that can be downloaded.
type set struct {
	name string // on the command line
	file string // in the data folder
	// url has {LAYOUT} in place of the month, with a layout of package time.
	url     string
	months  int      // how many months before the current one to try
	hosts   []string // other servers to which its server redirects, by https
	key     key
	kinds   []string // kinds of content that inspect may find
	archive bool     // the file is in a .tar.gz
	sum     checksum // beside the file
	optIn   bool

	minRows int64 // a file with fewer is incomplete
	limit   int64 // maximum of bytes to download
	// stale is the age from which an update is advised.
	stale time.Duration

	what        string // what it adds to the map
	about       string // its size, and how often it changes
	licence     string
	attribution string // to show with the data
	terms       string // shown before the download; empty: the licence is enough
}

// A checksum is that of a file on a server, in a file beside it. The zero checksum is none.
type checksum struct {
	suffix, name string
	new          func() hash.Hash
	optional     bool // the server may answer 404
}

// group returns the name for all files of one kind from the registries; empty: none.
func (s set) group() string {
	group, _, _ := strings.Cut(s.name, "-")
	if group == "rir" || group == "autnum" {
		return group
	}
	return ""
}

// A key is what a source requires to identify its users.
type key int

const (
	noKey key = iota
	maxmindKey
	ipinfoKey
)

// variables returns the environment variables of a key, and where to get it.
func (k key) variables() (names []string, signUp string) {
	switch k {
	case maxmindKey:
		return []string{"MAXMIND_ACCOUNT_ID", "MAXMIND_LICENSE_KEY"}, "https://www.maxmind.com/en/geolite2/signup"
	case ipinfoKey:
		return []string{"IPINFO_TOKEN"}, "https://ipinfo.io/signup"
	}
	return nil, ""
}

// sign adds the key, whose values are in the order of variables, to a request.
func (k key) sign(r *http.Request, values []string) {
	switch k {
	case maxmindKey:
		r.SetBasicAuth(values[0], values[1])
	case ipinfoKey:
		q := r.URL.Query()
		q.Set("token", values[0])
		r.URL.RawQuery = q.Encode()
	}
}

var monthLayout = regexp.MustCompile(`\{[^}]*\}`)

// addresses returns the URLs to try one after the other until one exists. They are on the mirror
// if there is one.
func (s set) addresses(now time.Time, mirror *url.URL) ([]string, error) {
	var all []string
	for back := range s.months + 1 {
		now := now.UTC()
		month := time.Date(now.Year(), now.Month()-time.Month(back), 1, 0, 0, 0, 0, time.UTC)
		u, err := url.Parse(monthLayout.ReplaceAllStringFunc(s.url, func(l string) string {
			return month.Format(l[1 : len(l)-1])
		}))
		if err != nil {
			return nil, err
		}
		if mirror != nil {
			u.Scheme, u.Host, u.User = mirror.Scheme, mirror.Host, mirror.User
			u.Path, u.RawPath = strings.TrimSuffix(mirror.Path, "/")+u.Path, ""
		}
		all = append(all, u.String())
	}
	return all, nil
}

const (
	mb  = 1 << 20
	day = 24 * time.Hour
)

// sets returns the data sets in the order in which they are downloaded.
func sets() []set {
	all := []set{
		{
			name: "dbip-city", file: "dbip-city-lite.csv.gz",
			url:    "https://download.db-ip.com/free/dbip-city-lite-{2006-01}.csv.gz",
			months: 1, kinds: []string{"DB-IP city CSV"},
			minRows: 500_000, limit: 1024 * mb, stale: 31 * day,
			what:    "cities of addresses, so that the map shows more than countries",
			about:   "about 100 MB, monthly",
			licence: "CC BY 4.0", attribution: "IP Geolocation by DB-IP, https://db-ip.com",
		},
		{
			name: "iptoasn", file: "ip2asn-combined.tsv.gz",
			url:     "https://iptoasn.com/data/ip2asn-combined.tsv.gz",
			kinds:   []string{"iptoasn TSV"},
			minRows: 200_000, limit: 128 * mb, stale: 7 * day,
			what:    "the network (autonomous system) an address belongs to",
			about:   "about 10 MB, hourly",
			licence: "PDDL 1.0", attribution: "none required; the data are from https://iptoasn.com",
		},
	}
	for _, r := range []struct{ name, url, size string }{
		{"afrinic", "https://ftp.afrinic.net/pub/stats/afrinic/delegated-afrinic-extended-latest", "2 MB"},
		{"apnic", "https://ftp.apnic.net/stats/apnic/delegated-apnic-extended-latest", "10 MB"},
		{"arin", "https://ftp.arin.net/pub/stats/arin/delegated-arin-extended-latest", "15 MB"},
		{"lacnic", "https://ftp.lacnic.net/pub/stats/lacnic/delegated-lacnic-extended-latest", "10 MB"},
		{"ripencc", "https://ftp.ripe.net/pub/stats/ripencc/delegated-ripencc-extended-latest", "20 MB"},
	} {
		all = append(all, set{
			name: "rir-" + r.name, file: "delegated-" + r.name + "-extended-latest",
			url: r.url, kinds: []string{"delegations of " + r.name}, sum: checksum{suffix: ".md5", new: md5.New, name: "MD5", optional: true},
			minRows: 10_000, limit: 256 * mb, stale: 7 * day,
			what:    "which addresses and AS numbers " + registry(r.name) + " gave to whom, for ip2asn",
			about:   "about " + r.size + ", daily",
			licence: "free use", attribution: "none required; the data are from " + registry(r.name),
		})
	}
	all = append(all, set{
		name: "dbip-asn", file: "dbip-asn-lite.csv.gz", optIn: true,
		url:    "https://download.db-ip.com/free/dbip-asn-lite-{2006-01}.csv.gz",
		months: 1, kinds: []string{"AS CSV"},
		minRows: 100_000, limit: 128 * mb, stale: 31 * day,
		what:    "networks, instead of iptoasn",
		about:   "about 10 MB, monthly",
		licence: "CC BY 4.0", attribution: "IP Geolocation by DB-IP, https://db-ip.com",
	}, set{
		name: "caida-orgs", file: "as-org2info.txt.gz", optIn: true,
		url:    "https://publicdata.caida.org/datasets/as-organizations/{20060102}.as-org2info.txt.gz",
		months: 4, kinds: []string{"CAIDA as-org2info"},
		minRows: 50_000, limit: 64 * mb, stale: 95 * day,
		what:        "which networks belong to one organisation, for ip2asn",
		about:       "about 5 MB, monthly",
		licence:     "CAIDA Acceptable Use Agreement",
		attribution: "The CAIDA UCSD AS to Organization Mapping Dataset, https://www.caida.org/catalog/datasets/as-organizations/",
		terms:       "CAIDA's Acceptable Use Agreement for public datasets applies; publications must cite the data set and be reported; see https://www.caida.org/catalog/datasets/as-organizations/",
	})
	for _, r := range []struct{ name, url, file, size, terms string }{
		{"ripencc", "https://ftp.ripe.net/ripe/dbase/split/ripe.db.aut-num.gz", "ripe.db.aut-num.gz", "10 MB", "https://docs.db.ripe.net/terms-conditions.html"},
		{"apnic", "https://ftp.apnic.net/apnic/whois/apnic.db.aut-num.gz", "apnic.db.aut-num.gz", "5 MB", "https://www.apnic.net/db/dbcopyright.html"},
		{"afrinic", "https://ftp.afrinic.net/pub/dbase/afrinic.db.gz", "afrinic.db.gz", "20 MB", "https://afrinic.net/whois/terms"},
		{"arin", "https://ftp.arin.net/pub/rr/arin.db.gz", "arin.db.gz", "10 MB", "https://www.arin.net/resources/registry/whois/tou/"},
		{"lacnic", "https://ftp.lacnic.net/lacnic/dbase/lacnic.db.gz", "lacnic.db.gz", "10 MB", "https://www.lacnic.net/"},
	} {
		all = append(all, set{
			name: "autnum-" + r.name, file: r.file, optIn: true,
			url: r.url, kinds: []string{"registry database"},
			minRows: 1000, limit: 512 * mb, stale: 7 * day,
			what:    "records of AS numbers as " + registry(r.name) + "'s whois shows them, for ip2asn",
			about:   "about " + r.size + ", daily",
			licence: registry(r.name) + "'s terms", attribution: "as " + r.terms + " says",
			terms: registry(r.name) + "'s terms and conditions apply, " + r.terms,
		})
	}
	for _, m := range []struct {
		name, edition, what, size string
		minRows                   int64
	}{
		{"maxmind-city", "GeoLite2-City", "cities, instead of dbip-city", "60 MB", 500_000},
		{"maxmind-asn", "GeoLite2-ASN", "networks, instead of iptoasn", "10 MB", 100_000},
	} {
		all = append(all, set{
			name: m.name, file: m.edition + ".mmdb", optIn: true, archive: true, key: maxmindKey, sum: checksum{suffix: ".sha256", new: sha256.New, name: "SHA-256"},
			hosts:   []string{"mm-prod-geoip-databases.a2649acb697e2c09b632799562c076f2.r2.cloudflarestorage.com"},
			url:     "https://download.maxmind.com/geoip/databases/" + m.edition + "/download?suffix=tar.gz",
			kinds:   []string{"MaxMind DB " + m.edition},
			minRows: m.minRows, limit: 512 * mb, stale: 7 * day,
			what:    m.what,
			about:   "about " + m.size + ", twice a week, needs a free account",
			licence: "GeoLite2 EULA", attribution: "This product includes GeoLite2 data created by MaxMind, available from https://www.maxmind.com",
			terms: "the GeoLite2 EULA applies, https://www.maxmind.com/en/geolite2/eula; it asks to replace old copies within 30 days",
		})
	}
	return append(all, set{
		name: "ipinfo-lite", file: "ipinfo_lite.csv.gz", optIn: true, key: ipinfoKey,
		hosts:   []string{"dl.assets.ipinfo.io"},
		url:     "https://ipinfo.io/data/ipinfo_lite.csv.gz",
		kinds:   []string{"IPinfo Lite CSV"},
		minRows: 500_000, limit: 512 * mb, stale: 7 * day,
		what:    "countries and networks, no cities",
		about:   "about 50 MB, daily, needs a free account",
		licence: "CC BY-SA 4.0", attribution: "IP address data powered by IPinfo, https://ipinfo.io",
	})
}

// registry returns the name of a registry as it writes itself.
func registry(name string) string {
	if name == "ripencc" {
		return "RIPE NCC"
	}
	return strings.ToUpper(name)
}

// content returns the maximum of bytes that a file may unpack to.
func (s set) content() int64 { return min(16*s.limit, unpackedLimit) }

// matches reports whether the set may have content of a kind.
func (s set) matches(kind string) bool { return slices.Contains(s.kinds, kind) }

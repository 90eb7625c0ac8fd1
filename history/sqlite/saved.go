package sqlite

import (
	"strconv"
	"strings"

	"github.com/connmapgo/connmap/history"
)

// SavedQueries returns the frequent questions. Those over a part of the past use the indexes of
// timestamp and opened. The parameter :since is a modifier of SQLite's date functions.
func SavedQueries() []history.SavedQuery {
	day, week := map[string]string{"since": "-1 day"}, map[string]string{"since": "-7 days"}
	with := func(base map[string]string, more ...string) map[string]string {
		m := make(map[string]string)
		for k, v := range base {
			m[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	return []history.SavedQuery{
		// As connmapperl's documentation does it.
		{Name: "alive", About: "what was seen in the last 30 seconds", SQL: `SELECT ip, port, programname, orgname, agent, rule, count
FROM detailed_history WHERE timestamp >= unixepoch('now', '-30 seconds') ORDER BY timestamp DESC LIMIT 500`},
		{Name: "newest", About: "the connections seen last", SQL: `SELECT timestamp, ip, port, programname, orgname, country, agent, count
FROM detailed_history ORDER BY timestamp DESC LIMIT 500`},
		{Name: "program", About: "the connections of a program", SQL: `SELECT timestamp, ip, port, orgname, country, agent, count
FROM detailed_history WHERE programname = :program AND timestamp >= unixepoch('now', :since)
ORDER BY timestamp DESC LIMIT 500`, Params: with(day, "program", "sshd")},
		{Name: "range", About: "the connections with a range of addresses", SQL: `SELECT timestamp, ip, port, programname, orgname, agent, count
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND cidr_match(ip, :prefix)
ORDER BY timestamp DESC LIMIT 500`, Params: with(day, "prefix", "192.0.2.0/24")},
		{Name: "organisations", About: "who is connected to most often", SQL: `SELECT orgname, asn, sum(count) AS connections, count(DISTINCT ip) AS addresses
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY orgname, asn ORDER BY connections DESC LIMIT 100`, Params: day},
		{Name: "only", About: "addresses that a program has used and no other ever", SQL: `SELECT DISTINCT ip, orgname, country FROM detailed_history AS a
WHERE programname = :program AND timestamp >= unixepoch('now', :since)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND b.programname < a.programname)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND b.programname > a.programname)
LIMIT 500`, Params: with(day, "program", "sshd")},
		{Name: "near", About: "the newest connections within :km of a place", SQL: `SELECT timestamp, ip, port, programname, orgname, agent, count FROM detailed_history
WHERE timestamp >= unixepoch('now', :since) AND (lat, lon) IN (SELECT lat, lon FROM places
  WHERE lat BETWEEN :lat - :km / 111.0 AND :lat + :km / 111.0 AND haversine(lat, lon, :lat, :lon) <= :km)
ORDER BY timestamp DESC LIMIT 500`, Params: with(day, "lat", "52.5", "lon", "13.4", "km", "100")},

		{Name: "names", About: "the names that programs asked for", SQL: `SELECT peer_name, sum(count) AS connections, count(DISTINCT ip) AS addresses, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, group_concat(DISTINCT programname) AS programs
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND peer_name IS NOT NULL
GROUP BY +peer_name ORDER BY connections DESC LIMIT 500`, Params: day},
		{Name: "name", About: "the connections to a domain and all names below it", SQL: `SELECT timestamp, peer_name, ip, port, programname, orgname, agent, count FROM detailed_history
WHERE peer_name IN (SELECT name FROM peer_names WHERE name = lower(trim(:domain, '*.')) OR substr(name, -length(trim(:domain, '*.')) - 1) = '.' || lower(trim(:domain, '*.')))
ORDER BY timestamp DESC LIMIT 500`, Params: map[string]string{"domain": "example.com"}},
		{Name: "new-names", About: "names that were never asked for before", SQL: `SELECT peer_name, programname, agent, min(opened) AS first FROM detailed_history AS a
WHERE opened >= unixepoch('now', :since) AND peer_name IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.peer_name = a.peer_name AND +b.opened < unixepoch('now', :since))
GROUP BY +peer_name ORDER BY first DESC LIMIT 500`, Params: week},
		{Name: "program-names", About: "the names that each program asked for", SQL: `SELECT programname, peer_name, sum(count) AS connections, max(timestamp) AS last
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND peer_name IS NOT NULL
GROUP BY +programname, +peer_name ORDER BY +programname, connections DESC LIMIT 1000`, Params: day},
		{Name: "name-addresses", About: "the names with the most addresses", SQL: `SELECT peer_name, count(DISTINCT ip) AS addresses, count(DISTINCT asn) AS networks, count(DISTINCT country) AS countries
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND peer_name IS NOT NULL
GROUP BY +peer_name ORDER BY addresses DESC LIMIT 100`, Params: week},

		{Name: "losses", About: "how much agents could not tell, by hour", SQL: `SELECT timestamp AS hour, agent, count
FROM losses WHERE timestamp >= unixepoch('now', :since) ORDER BY timestamp DESC LIMIT 500`, Params: week},
		{Name: "shares", About: "how much of the history each agent has, and how many of its connections went to keep the limits", SQL: `SELECT agent, rows, bytes, pruned
FROM agents ORDER BY bytes DESC LIMIT 500`},
		{Name: "busiest", About: "organisations by bytes", SQL: `SELECT orgname, country, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY orgname, country ORDER BY sent + received DESC LIMIT 100`, Params: day},
		{Name: "new-programs", About: "what programs first connected to since", SQL: `SELECT programname, count(*) AS connections, count(DISTINCT ip) AS addresses, min(opened) AS first
FROM detailed_history WHERE opened >= unixepoch('now', :since)
GROUP BY programname ORDER BY connections DESC LIMIT 500`, Params: day},
		{Name: "new-addresses", About: "addresses that were never seen before", SQL: `SELECT ip, orgname, country, programname, agent, min(opened) AS first FROM detailed_history AS a
WHERE opened >= unixepoch('now', :since)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND +b.opened < unixepoch('now', :since))
GROUP BY +ip ORDER BY first DESC LIMIT 500`, Params: map[string]string{"since": "-1 hour"}},
		{Name: "new-countries", About: "countries that were never seen before", SQL: `WITH firsts AS (SELECT (SELECT min(id) FROM detailed_history WHERE (lat, lon) = (p.lat, p.lon)) AS id FROM places AS p)
SELECT country, min(opened) AS first, count(*) AS places FROM firsts JOIN detailed_history USING (id)
GROUP BY country HAVING first >= unixepoch('now', :since) ORDER BY first DESC`, Params: week},
		{Name: "night", About: "what connected from midnight to six (UTC)", SQL: `SELECT opened, ip, port, programname, orgname, country, agent FROM detailed_history
WHERE opened >= unixepoch('now', :since) AND strftime('%H', opened, 'unixepoch') < '06' ORDER BY opened DESC LIMIT 500`, Params: week},
		{Name: "uploads", About: "the connections that sent most", SQL: `SELECT tx AS sent, ip, port, programname, orgname, country, agent, opened
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) ORDER BY tx DESC LIMIT 100`, Params: day},
		{Name: "downloads", About: "the connections that received most", SQL: `SELECT rx AS received, ip, port, programname, orgname, country, agent, opened
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) ORDER BY rx DESC LIMIT 100`, Params: day},
		{Name: "scanners", About: "addresses that came to many ports of ours", SQL: `SELECT ip, orgname, country, count(DISTINCT local_port) AS ports, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND direction = 'in'
GROUP BY +ip HAVING ports >= 3 ORDER BY ports DESC LIMIT 100`, Params: day},
		{Name: "longest", About: "what is open longest", SQL: `SELECT opened, timestamp, ip, port, programname, orgname, agent, tx, rx FROM detailed_history
WHERE timestamp >= unixepoch('now', '-1 minute') AND closed IS NULL ORDER BY +opened LIMIT 100`},
		{Name: "programs", About: "programs by bytes", SQL: `SELECT programname, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections, count(DISTINCT orgname) AS organisations
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY programname ORDER BY sent + received DESC LIMIT 100`, Params: day},
		{Name: "countries", About: "countries by bytes", SQL: `SELECT country, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY country ORDER BY sent + received DESC`, Params: day},
		{Name: "ipv6", About: "how much goes by IPv6, by hour", SQL: `SELECT strftime('%Y-%m-%dT%H:00Z', timestamp, 'unixepoch') AS hour, count(*) AS connections, round(100.0 * avg(ip LIKE '%:%'), 1) AS percent
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) GROUP BY hour ORDER BY hour DESC`, Params: day},
		{Name: "containers", About: "where containers connect to", SQL: `SELECT container, programname, orgname, country, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND container <> ''
GROUP BY container, programname, orgname ORDER BY connections DESC LIMIT 500`, Params: day},
		{Name: "unclassified", About: "what no rule is for", SQL: `SELECT timestamp, ip, port, local_port, programname, exe, orgname, direction, agent
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND rule = 'Other' ORDER BY timestamp DESC LIMIT 500`, Params: day},
		{Name: "ports", About: "the ports that we connect to", SQL: `SELECT port, protocol, sum(count) AS connections, count(DISTINCT ip) AS addresses, group_concat(DISTINCT programname) AS programs
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND direction = 'out'
GROUP BY port, protocol ORDER BY connections DESC LIMIT 100`, Params: day},
		{Name: "agents", About: "what each agent did", SQL: `SELECT agent, sum(count) AS connections, count(DISTINCT ip) AS addresses, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, max(timestamp) AS last
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) GROUP BY +agent ORDER BY +agent`, Params: day},
	}
}

// Filled writes the values of its parameters into a saved query.
func Filled(q history.SavedQuery) history.SavedQuery {
	var pairs []string
	for name, value := range q.Params {
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			value = quote(value)
		}
		pairs = append(pairs, ":"+name, value)
	}
	q.SQL, q.Params = strings.NewReplacer(pairs...).Replace(q.SQL), nil
	return q
}

// quote writes a text as SQL does.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

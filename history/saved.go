package history

// A SavedQuery is a question that many ask. Its parameters have values to begin
// with; :since is a modifier of SQLite's date functions.
type SavedQuery struct {
	Name   string // short, without spaces
	About  string
	SQL    string
	Params map[string]string
}

// SavedQueries returns the questions that come with the program. Those over a part
// of the past go by the indexes of timestamp and opened.
func SavedQueries() []SavedQuery {
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
	return []SavedQuery{
		// In the manner of connmapperl.
		{"alive", "what was seen in the last 30 seconds", `SELECT ip, port, programname, orgname, agent, rule, count
FROM detailed_history WHERE timestamp >= unixepoch('now', '-30 seconds') ORDER BY timestamp DESC LIMIT 500`, nil},
		{"newest", "the connections seen last", `SELECT timestamp, ip, port, programname, orgname, country, agent, count
FROM detailed_history ORDER BY timestamp DESC LIMIT 500`, nil},
		{"program", "the connections of a program", `SELECT timestamp, ip, port, orgname, country, agent, count
FROM detailed_history WHERE programname = :program AND timestamp >= unixepoch('now', :since)
ORDER BY timestamp DESC LIMIT 500`, with(day, "program", "sshd")},
		{"range", "the connections with a range of addresses", `SELECT timestamp, ip, port, programname, orgname, agent, count
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND cidr_match(ip, :prefix)
ORDER BY timestamp DESC LIMIT 500`, with(day, "prefix", "192.0.2.0/24")},
		{"organisations", "who is connected to most often", `SELECT orgname, asn, sum(count) AS connections, count(DISTINCT ip) AS addresses
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY orgname, asn ORDER BY connections DESC LIMIT 100`, day},
		{"only", "addresses that a program has used and no other ever", `SELECT DISTINCT ip, orgname, country FROM detailed_history AS a
WHERE programname = :program AND timestamp >= unixepoch('now', :since)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND b.programname < a.programname)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND b.programname > a.programname)
LIMIT 500`, with(day, "program", "sshd")},
		{"near", "the newest connections within :km of a place", `SELECT timestamp, ip, port, programname, orgname, agent, count FROM detailed_history
WHERE timestamp >= unixepoch('now', :since) AND (lat, lon) IN (SELECT lat, lon FROM places
  WHERE lat BETWEEN :lat - :km / 111.0 AND :lat + :km / 111.0 AND haversine(lat, lon, :lat, :lon) <= :km)
ORDER BY timestamp DESC LIMIT 500`, with(day, "lat", "52.5", "lon", "13.4", "km", "100")},

		{"losses", "how much agents could not tell, by hour", `SELECT timestamp AS hour, agent, count
FROM losses WHERE timestamp >= unixepoch('now', :since) ORDER BY timestamp DESC LIMIT 500`, week},
		{"shares", "how much of the history each agent has, and how many of its connections went to keep the limits", `SELECT agent, rows, bytes, pruned
FROM agents ORDER BY bytes DESC LIMIT 500`, nil},
		{"busiest", "organisations by bytes", `SELECT orgname, country, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY orgname, country ORDER BY sent + received DESC LIMIT 100`, day},
		{"new-programs", "what programs first connected to since", `SELECT programname, count(*) AS connections, count(DISTINCT ip) AS addresses, min(opened) AS first
FROM detailed_history WHERE opened >= unixepoch('now', :since)
GROUP BY programname ORDER BY connections DESC LIMIT 500`, day},
		{"new-addresses", "addresses that were never seen before", `SELECT ip, orgname, country, programname, agent, min(opened) AS first FROM detailed_history AS a
WHERE opened >= unixepoch('now', :since)
  AND NOT EXISTS (SELECT 1 FROM detailed_history AS b WHERE b.ip = a.ip AND +b.opened < unixepoch('now', :since))
GROUP BY +ip ORDER BY first DESC LIMIT 500`, map[string]string{"since": "-1 hour"}},
		{"new-countries", "countries that were never seen before", `WITH firsts AS (SELECT (SELECT min(id) FROM detailed_history WHERE (lat, lon) = (p.lat, p.lon)) AS id FROM places AS p)
SELECT country, min(opened) AS first, count(*) AS places FROM firsts JOIN detailed_history USING (id)
GROUP BY country HAVING first >= unixepoch('now', :since) ORDER BY first DESC`, week},
		{"night", "what connected from midnight to six (UTC)", `SELECT opened, ip, port, programname, orgname, country, agent FROM detailed_history
WHERE opened >= unixepoch('now', :since) AND strftime('%H', opened, 'unixepoch') < '06' ORDER BY opened DESC LIMIT 500`, week},
		{"uploads", "the connections that sent most", `SELECT tx AS sent, ip, port, programname, orgname, country, agent, opened
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) ORDER BY tx DESC LIMIT 100`, day},
		{"downloads", "the connections that received most", `SELECT rx AS received, ip, port, programname, orgname, country, agent, opened
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) ORDER BY rx DESC LIMIT 100`, day},
		{"scanners", "addresses that came to many ports of ours", `SELECT ip, orgname, country, count(DISTINCT local_port) AS ports, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND direction = 'in'
GROUP BY +ip HAVING ports >= 3 ORDER BY ports DESC LIMIT 100`, day},
		{"longest", "what is open longest", `SELECT opened, timestamp, ip, port, programname, orgname, agent, tx, rx FROM detailed_history
WHERE timestamp >= unixepoch('now', '-1 minute') AND closed IS NULL ORDER BY +opened LIMIT 100`, nil},
		{"programs", "programs by bytes", `SELECT programname, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections, count(DISTINCT orgname) AS organisations
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY programname ORDER BY sent + received DESC LIMIT 100`, day},
		{"countries", "countries by bytes", `SELECT country, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since)
GROUP BY country ORDER BY sent + received DESC`, day},
		{"ipv6", "how much goes by IPv6, by hour", `SELECT strftime('%Y-%m-%dT%H:00Z', timestamp, 'unixepoch') AS hour, count(*) AS connections, round(100.0 * avg(ip LIKE '%:%'), 1) AS percent
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) GROUP BY hour ORDER BY hour DESC`, day},
		{"containers", "where containers connect to", `SELECT container, programname, orgname, country, sum(count) AS connections
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND container <> ''
GROUP BY container, programname, orgname ORDER BY connections DESC LIMIT 500`, day},
		{"unclassified", "what no rule is for", `SELECT timestamp, ip, port, local_port, programname, exe, orgname, direction, agent
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND rule = 'Other' ORDER BY timestamp DESC LIMIT 500`, day},
		{"ports", "the ports that we connect to", `SELECT port, protocol, sum(count) AS connections, count(DISTINCT ip) AS addresses, group_concat(DISTINCT programname) AS programs
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) AND direction = 'out'
GROUP BY port, protocol ORDER BY connections DESC LIMIT 100`, day},
		{"agents", "what each agent did", `SELECT agent, sum(count) AS connections, count(DISTINCT ip) AS addresses, CAST(total(tx) AS INTEGER) AS sent, CAST(total(rx) AS INTEGER) AS received, max(timestamp) AS last
FROM detailed_history WHERE timestamp >= unixepoch('now', :since) GROUP BY +agent ORDER BY +agent`, day},
	}
}

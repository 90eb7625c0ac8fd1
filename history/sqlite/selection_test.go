package sqlite

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/history"
)

// TestSQL: the questions behind lists are as people know them, and can be asked. That those
// of terms find what the map does is seen by TestFilterInSQL.
func TestSQL(t *testing.T) {
	const shown = "SELECT timestamp, ip, peer_name, port, programname, orgname, country, agent, rule, count\nFROM detailed_history\n"
	c := console(t, peers(t, "192.0.2.1", "198.51.100.1"))
	for _, tt := range []struct {
		name string
		of   history.Selection
		want string
	}{
		{"all", history.Selection{}, "SELECT timestamp, ip, peer_name, port, programname, agent, orgname, country, count\nFROM detailed_history\nORDER BY timestamp DESC LIMIT 500"},
		{"rule", history.Selection{Rule: "it's"}, "SELECT timestamp, ip, peer_name, port, programname, agent, orgname, country, count\nFROM detailed_history\n" +
			"WHERE rule = 'it''s' AND timestamp >= unixepoch('now', '-7 days')\nORDER BY timestamp DESC LIMIT 500"},
		{"nowhere", history.Selection{Nowhere: true}, shown + "WHERE lat IS NULL\nORDER BY timestamp DESC LIMIT 500"},
		{"near", history.Selection{Near: history.Circle{Lat: 1, Lon: 2, Km: 3}}, nearbySQL(1, 2, 3, 10_000)},
		{"within", history.Selection{Within: netip.MustParsePrefix("192.0.0.0/8")}, "SELECT * FROM detailed_history\nWHERE ip >= '192.' AND ip < '192/'\nORDER BY +id DESC LIMIT 10000"},
		{"a word", history.Selection{Terms: []history.Term{{Value: "prog"}}}, shown + "WHERE (ip LIKE '%prog%'\n    OR port LIKE '%prog%'\n    OR programname LIKE '%prog%'\n    OR " +
			"agent LIKE '%prog%'\n    OR orgname LIKE '%prog%'\n    OR rule LIKE '%prog%'\n    OR exe LIKE '%prog%'\n    OR container LIKE '%prog%'\n    OR peer_name LIKE '%prog%')\nORDER BY timestamp DESC"},
		{"countries", history.Selection{Terms: []history.Term{{Key: "country", Value: "united", Countries: "GB US", Not: true}, {Key: "country", Value: "u"}}},
			shown + "WHERE (country IN ('GB', 'US')) IS NOT TRUE\n  AND (FALSE)\nORDER BY timestamp DESC"},
		{"a name", history.Selection{Terms: []history.Term{{Key: "name", Value: "it's"}}}, shown + "WHERE (peer_name IN (SELECT name FROM peer_names WHERE name LIKE '%it''s%'))\nORDER BY timestamp DESC"},
		{"what the history does not have", history.Selection{Terms: []history.Term{{Key: "city", Value: "paris", Not: true}, {Key: "port", Value: "443"}, {Key: "state", Value: "closing"}}},
			"-- left out, for the history does not have it: -city:paris state:closing\n" + shown + "WHERE (port = 443 OR local_port = 443)\nORDER BY timestamp DESC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, SQL(tt.of))
			_, err := c.Ask(t.Context(), history.Question{SQL: SQL(tt.of)})
			require.NoError(t, err)
		})
	}
	_, err := c.Ask(t.Context(), history.Question{SQL: FirstQuery})
	assert.NoError(t, err)
}

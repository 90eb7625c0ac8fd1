package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// seedQueries are the queries in the documentation of connmapperl, as they stand there.
func seedQueries(t testing.TB) []string {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "seed", "connmapperl.txt"))
	if err != nil {
		t.Skip("needs the documentation of connmapperl: ", err)
	}
	queries := regexp.MustCompile(`(?ms)^SELECT \* FROM detailed_history.*?;$`).FindAllString(string(b), -1)
	require.Len(t, queries, 7)
	return queries
}

// originalTables are ways in which the table of connmapperl may be declared.
var originalTables = map[string]string{
	"typed":   perlTable,
	"integer": strings.Replace(perlTable, "DATETIME DEFAULT CURRENT_TIMESTAMP", "INTEGER", 1),
	"text":    strings.NewReplacer("port INTEGER", "port TEXT", "DATETIME DEFAULT CURRENT_TIMESTAMP", "TEXT", "REAL", "TEXT", "x INTEGER, y INTEGER, count INTEGER", "x TEXT, y TEXT, count TEXT").Replace(perlTable),
}

// original makes a file of connmapperl with n rows of all ages, none of which comes to be 30
// seconds or an hour old in the next seconds. DBD::SQLite binds texts, if it is not told
// otherwise.
func original(t testing.TB, table string, texts bool, n int) string {
	name := foreign(t, table)
	conn, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteTransient(conn, `BEGIN`, nil))
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now().Unix()
	ports := []any{80, 443, 22, 993, 587, 6660, 6697, 6698, 31415, 31417, 12000, 5555, 8080, 53, nil}
	programs := []any{"sshd", "sshd", "/usr/bin/deluge", "bitcoin-qt", "firefox", "", nil}
	orgs := []any{"Cloudflare, Inc.", "CLOUDFLARENET", "Example Networks", "", nil}
	asns := []any{"AS64496", "64497", 64498, "", nil}
	pick := func(list []any) any { return list[r.IntN(len(list))] }
	for i := range n {
		// Seconds, minutes and days, each that of two rows.
		n := i / 8 * 8
		age := -20 - n
		switch i % 4 {
		case 1:
			age = 90 + n%2500
		case 2:
			age = 5000 + 60*n
		case 3:
			age = 86400 + 3600*n + 7
		}
		ip, program := fmt.Sprint("198.51.100.", r.IntN(50)), pick(programs)
		if i%10 == 0 { // an address of its own
			ip, program = fmt.Sprint("203.0.113.", i%250), "sshd"
		}
		args := []any{i + 1, now - int64(age), ip, pick(ports), "192.0.2.7", pick(ports), program, "", pick(asns), pick(orgs),
			float64(r.IntN(180) - 90), float64(r.IntN(360) - 180), r.IntN(1000), r.IntN(500), 1 + r.IntN(9)}
		if texts {
			for j, a := range args[1:] {
				if a != nil {
					args[j+1] = fmt.Sprint(a)
				}
			}
		}
		require.NoError(t, sqlitex.Execute(conn, `INSERT INTO detailed_history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, &sqlitex.ExecOptions{Args: args}))
	}
	require.NoError(t, sqlitex.ExecuteTransient(conn, `COMMIT`, nil))
	return name
}

// idsOf are the numbers of the rows of an answer, in its order.
func idsOf(t testing.TB, c *Console, sql string) string {
	var ids []string
	for _, row := range ask(t, c, sql, nil) {
		ids = append(ids, fmt.Sprint(row[0]))
	}
	return strings.Join(ids, " ")
}

// TestSeedQueries: what connmapperl's documentation asks finds the same rows, in the same
// order, in the original, when it has been taken over and when it has not.
func TestSeedQueries(t *testing.T) {
	queries := seedQueries(t)
	tool, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("needs sqlite3: ", err)
	}
	for name, table := range originalTables {
		for _, texts := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " texts=", texts), func(t *testing.T) {
				name := original(t, table, texts, 1000)
				taken := path(t)
				require.NoError(t, copyFile(taken, name))
				db := open(t, taken)
				migrated := console(t, db)
				untouched, err := OpenConsole(t.Context(), name, ConsoleOptions{})
				require.NoError(t, err)
				defer untouched.Close()
				for _, q := range queries {
					out, err := exec.Command(tool, "-readonly", name, q).CombinedOutput()
					require.NoError(t, err, string(out))
					var want []string
					for line := range strings.Lines(string(out)) {
						id, _, _ := strings.Cut(line, "|")
						want = append(want, id)
					}
					require.NotEmpty(t, want, q)
					require.Less(t, len(want), 1000, q)
					assert.Equal(t, strings.Join(want, " "), idsOf(t, migrated, q), q)
					assert.Equal(t, strings.Join(want, " "), idsOf(t, untouched, q), q)
				}
				for _, c := range []*Console{migrated, untouched} {
					for _, number := range []string{"64496", "64497", "64498"} {
						n := idsOf(t, c, "SELECT id FROM detailed_history WHERE asn = "+number)
						assert.NotEmpty(t, n)
						assert.Equal(t, n, idsOf(t, c, "SELECT id FROM detailed_history WHERE asn = 'AS"+number+"'"))
					}
				}
			})
		}
	}
}

// TestSeedQueryOfNow: the first query finds what lives and what ended in the last half
// minute, and no more.
func TestSeedQueryOfNow(t *testing.T) {
	q := seedQueries(t)[0]
	db := open(t, path(t))
	now := time.Now()
	all := entries(0, 4)
	for i, seen := range []time.Duration{0, 10 * time.Second, 2 * time.Minute, 48 * time.Hour} {
		all[i].Opened, all[i].Seen = now.Add(-72*time.Hour), now.Add(-seen)
		if i > 0 {
			all[i].Closed = all[i].Seen
		}
	}
	require.NoError(t, db.Record(t.Context(), all))
	assert.Equal(t, "2 1", idsOf(t, console(t, db), q))
}

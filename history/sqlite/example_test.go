package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/history"
	"github.com/connmapgo/connmap/history/sqlite"
)

// A Writer records in the background, and a Console answers from the file.
func Example() {
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	name := filepath.Join(dir, "history.sqlite")

	db, err := sqlite.Open(ctx, name, sqlite.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	w := db.Writer()
	w.Add(history.Entry{
		Agent: "laptop", Protocol: "tcp", Direction: "out",
		Local: netip.MustParseAddrPort("192.0.2.7:50123"), Peer: netip.MustParseAddrPort("198.51.100.9:443"),
		Program: "curl", ASN: 64500, Org: "Example Networks",
		Lat: 52.52, Lon: 13.405, Located: true, Precision: "city", Country: "DE",
		New: true, Opened: time.Now(),
	})
	if err := w.Close(); err != nil { // waits until all is stored
		log.Fatal(err)
	}

	c, err := sqlite.OpenConsole(ctx, name, sqlite.ConsoleOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	table, err := c.Ask(ctx, history.Question{SQL: "SELECT ip, programname, orgname, count FROM detailed_history"})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range table.Rows {
		fmt.Println(row...)
	}
	// Output: 198.51.100.9 curl Example Networks 1
}

func ExampleConsole_Ask() {
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	name := filepath.Join(dir, "history.sqlite")
	db, err := sqlite.Open(ctx, name, sqlite.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for i := range 3 {
		err := db.Record(ctx, []history.Entry{{
			Agent: "laptop", Protocol: "tcp", Program: "curl", New: true, Opened: time.Now(),
			Local: netip.MustParseAddrPort("192.0.2.7:50123"), Peer: netip.MustParseAddrPort(fmt.Sprintf("198.51.100.%d:443", i)),
		}})
		if err != nil {
			log.Fatal(err)
		}
	}

	c, err := sqlite.OpenConsole(ctx, name, sqlite.ConsoleOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	table, err := c.Ask(ctx, history.Question{
		SQL:    `SELECT ip, programname FROM detailed_history WHERE cidr_match(ip, :prefix) AND timestamp > unixepoch('now', '-30 seconds')`,
		Params: map[string]any{"prefix": "198.51.100.0/31"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range table.Rows {
		fmt.Println(row...)
	}
	_, err = c.Ask(ctx, history.Question{SQL: `DELETE FROM detailed_history`})
	fmt.Println(err)
	// Output:
	// 198.51.100.0 curl
	// 198.51.100.1 curl
	// this console only reads: ask with SELECT, WITH, VALUES or EXPLAIN
}

// A Writer records in the background, and what is near a place is found again.
func ExampleDB_Nearby() {
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "history.sqlite"), sqlite.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	w := db.Writer()
	for i, lat := range []float64{52.52, 52.39, 48.14} { // Berlin, Potsdam, Munich
		w.Add(history.Entry{
			Agent: "laptop", Protocol: "tcp", Program: "curl", New: true, Opened: time.Now(),
			Local: netip.MustParseAddrPort("192.0.2.7:50123"), Peer: netip.MustParseAddrPort(fmt.Sprintf("198.51.100.%d:443", i)),
			Lat: lat, Lon: 13.4, Located: true,
		})
	}
	if err := w.Close(); err != nil { // waits until all is recorded
		log.Fatal(err)
	}
	for row, err := range db.Nearby(ctx, 52.5, 13.4, 50, 10) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(row.Peer, row.Lat)
	}
	for m, err := range db.Places(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Lat, m.Lon, m.Count)
	}
	// Output:
	// 198.51.100.1:443 52.39
	// 198.51.100.0:443 52.52
	// 48.14 13.4 1
	// 52.39 13.4 1
	// 52.52 13.4 1
}

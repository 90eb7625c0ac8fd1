package history_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/connmapgo/connmap/history"
)

func Example() {
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	db, err := history.Open(ctx, filepath.Join(dir, "history.sqlite"), history.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	opened := time.Now()
	err = db.Record(ctx, []history.Entry{{
		Agent: "laptop", Protocol: "tcp", Direction: "out",
		Local: netip.MustParseAddrPort("192.0.2.7:50123"), Peer: netip.MustParseAddrPort("198.51.100.9:443"),
		Program: "curl", ASN: 64500, Org: "Example Networks",
		Lat: 52.52, Lon: 13.405, Located: true, Country: "DE",
		New: true, Opened: opened, Seen: opened,
	}})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range db.Places(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Lat, m.Lon, m.Count)
	}
	// Output: 52.52 13.405 1
}

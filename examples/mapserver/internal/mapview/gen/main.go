// Command gen makes blocks.txt, the holders of the 256 /8 blocks of IPv4, from IANA's
// registry: go run ./gen ipv4-address-space.csv
package main

import (
	"encoding/csv"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
)

// short are names that are known by less than they are written.
var short = strings.NewReplacer("Administered by ", "", "IANA - ", "", "DoD Network Information Center", "DoD", "DoD Intel Information Systems", "DoD",
	"US-DOD", "DoD", "Level 3 Parent, LLC", "Level 3", "Societe Internationale de Telecommunications Aeronautiques S.C.R.L.", "SITA",
	"Army Information Systems Center", "US Army", "Defense Information Systems Agency", "DISA", "DLA Systems Automation Center", "DLA",
	"Amateur Radio Digital Communications", "Amateur Radio", "UK Ministry of Defence", "UK MoD", "AT&T Bell Laboratories", "AT&T",
	"Apple Computer Inc.", "Apple", "Ford Motor Company", "Ford", "Prudential Securities Inc.", "Prudential", "PSINet, Inc.", "PSINet",
	"US Postal Service", "USPS", "RIPE NCC", "RIPE")

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: gen ipv4-address-space.csv")
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		log.Fatal(err)
	}
	var out strings.Builder
	for i, row := range rows[1:] {
		number, _, _ := strings.Cut(row[0], "/")
		if n, err := strconv.Atoi(strings.TrimLeft(number, "0")); number != "000" && (err != nil || n != i) {
			log.Fatalf("line %d: expected the block %d, found %q", i+2, i, row[0])
		}
		fmt.Fprintln(&out, short.Replace(row[1]))
	}
	if len(rows) != 257 {
		log.Fatalf("expected 256 blocks, found %d", len(rows)-1)
	}
	if err := os.WriteFile("blocks.txt", []byte(out.String()), 0o666); err != nil {
		log.Fatal(err)
	}
}

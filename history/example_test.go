package history_test

import (
	"fmt"
	"log"
	"os"

	"github.com/connmapgo/connmap/history"
)

// An answer is written row by row.
func ExampleNewRowWriter() {
	answer := history.Table{
		Columns: []history.Column{{Name: "opened", Type: "real", Time: true}, {Name: "programname", Type: "text"}, {Name: "count", Type: "integer"}},
		Rows:    [][]any{{1782907200.25, "curl", int64(3)}, {int64(1782907260), "=ssh", nil}},
	}
	for _, format := range []string{"csv", "json"} {
		w, err := history.NewRowWriter(format, "iso", os.Stdout)
		if err == nil {
			err = w.Begin(answer.Columns)
		}
		for _, row := range answer.Rows {
			if err == nil {
				err = w.Row(row)
			}
		}
		if err == nil {
			err = w.End()
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(history.Term{Key: "port", Value: "443", Not: true})
	// Output:
	// opened,programname,count
	// 2026-07-01T12:00:00.25Z,curl,3
	// 2026-07-01T12:01:00Z,'=ssh,
	// {"opened":"2026-07-01T12:00:00.25Z","programname":"curl","count":3}
	// {"opened":"2026-07-01T12:01:00Z","programname":"=ssh","count":null}
	// -port:443
}

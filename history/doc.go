// Package history has the values of a history of connections: what is recorded of them,
// what is asked about them and what the answers are.
// It stores nothing: [github.com/connmapgo/connmap/history/sqlite] does.
//
//	recorder.Add(history.Entry{Agent: "laptop", Protocol: "tcp", Local: local, Peer: peer, Program: "curl", New: true, Opened: now})
//
//	for row, err := range store.Nearby(ctx, 52.5, 13.4, 100, 10) { // km, rows
//		if err != nil {
//			return err
//		}
//		fmt.Println(row.Peer, row.Program, row.Count)
//	}
//
//	w, err := history.NewRowWriter("csv", "iso", os.Stdout)
//
// # Recording
//
// A [Recorder] takes in a [Record]: an [Entry], which is a connection at one moment, a [Loss]
// or a [Report]. A [Store] has a [Row] for each distinct connection. It keeps as much of them
// as a [Retention] says.
//
// # Asking
//
// A map asks a Store for rows near a place, to a prefix or in the order of time. People ask a
// [Question] in the language of the store, and get a [Table]; a [RowWriter] writes it as CSV,
// JSON or a table for terminals. A [Selection] is what a question may be about; the store
// writes that.
//
// # Places
//
// [SaveMarks] and [LoadMarks] write and read how often connections to each place were opened,
// a [Mark] a line, in a text file that needs no database.
package history

// Package history has the values of a history of connections: records, questions and answers.
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
// A [Recorder] stores a [Record]: an [Entry], which is a connection at one moment, a [Loss] or
// a [Report]. A [Store] has a [Row] for each distinct connection. It deletes the oldest as a
// [Retention] says.
//
// # Asking
//
// A map gets rows from a Store near a place, to a prefix, or in the order of time. People ask a
// [Question] in the language of the store and get a [Table]; a [RowWriter] writes it as CSV,
// JSON or a table for terminals. For a [Selection] the store writes the question itself.
//
// # Places
//
// [SaveMarks] and [LoadMarks] write and read a text file that needs no database. It has a
// [Mark] in each line: a place, and how often connections to it were opened.
package history

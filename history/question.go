package history

import (
	"math"
	"time"
)

// A Question is a query with the limits of its answer.
type Question struct {
	SQL      string         // one statement that only reads
	Params   map[string]any // of parameters such as :since, by their names without colon: string, integer, float64, bool, []byte, time.Time (Unix seconds) or nil
	Timeout  time.Duration  // zero: 10 s, negative: none
	MaxRows  int            // zero: 10,000, negative: no limit
	MaxBytes int64          // of values; zero: 16 MiB, negative: no limit
}

// A Column is a column of an answer.
type Column struct {
	Name string
	Type string // integer, real, text or blob, by the first row; empty: not known
	Time bool   // its numbers are Unix seconds
}

// Number reports whether the values of the column are numbers.
func (c Column) Number() bool { return c.Type == "integer" || c.Type == "real" }

// A Table is an answer. Values are int64, float64, string, []byte or nil.
type Table struct {
	Columns []Column
	Rows    [][]any
	Cut     string // why there are no more rows; empty: these are all
	Elapsed time.Duration
}

// A QueryError says what is wrong with a question, or why it was stopped.
type QueryError struct {
	Offset int // of the error, in bytes of the SQL; -1: unknown
	Msg    string
}

func (e *QueryError) Error() string { return e.Msg }

// A SavedQuery is a frequent question. Its parameters have default values.
type SavedQuery struct {
	Name   string // short, without spaces
	About  string
	SQL    string
	Params map[string]string
}

// Number returns the value of a cell as a number, NaN if it is not one.
func Number(cell any) float64 {
	switch x := cell.(type) {
	case int64:
		return float64(x)
	case float64:
		return x
	}
	return math.NaN()
}

// Time returns the value of a cell of a column of times, in UTC. It is false if that is not a
// number, or outside the years 0 to 9999.
func Time(cell any) (time.Time, bool) {
	const first, end = -62167219200, 253402300800
	s := Number(cell)
	if !(s >= first && s < end) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(math.Round(s * 1e6))).UTC(), true
}

// LocalTime is the layout of times for people.
const LocalTime = "2006-01-02 15:04:05 MST"

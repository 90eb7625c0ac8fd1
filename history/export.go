package history

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/terminal"
)

// A RowWriter writes an answer. Begin, then Row for each row, then End.
type RowWriter interface {
	Begin([]Column) error
	Row([]any) error
	End() error
}

// NewRowWriter returns a RowWriter of a format:
//
//	csv    comma-separated values (RFC 4180) after a line of names; NULL is empty, and
//	       a text that a spreadsheet may take for a formula gets a ' before it: one that
//	       begins with = + - or @ after white space, or with a tab or carriage return. The
//	       same holds for the parts of a text after a semicolon, tab or line break
//	rawcsv the same with texts unchanged
//	json   an object a line; binary values in base64, and infinite numbers null
//	table  columns for terminals, without control characters; written by End
//
// and with times, which are columns whose Time is true, in one of three ways:
//
//	number  Unix seconds, as they are stored; if times is empty, that of csv and json
//	local   2026-07-01 14:00:00 CEST, in the zone of this computer; if times is empty,
//	        that of table
//	iso     2026-07-01T12:00:00Z, with milliseconds if it has some, in UTC (ISO 8601)
func NewRowWriter(format, times string, w io.Writer) (RowWriter, error) {
	if times == "" {
		times = "number"
		if format == "table" {
			times = "local"
		}
	}
	if times != "number" && times != "local" && times != "iso" {
		return nil, fmt.Errorf("history: want times as number, local or iso, found %q", times)
	}
	var to RowWriter
	switch format {
	case "csv":
		to = &csvWriter{w: csv.NewWriter(w), disarm: disarm}
	case "rawcsv":
		to = &csvWriter{w: csv.NewWriter(w), disarm: func(s string) string { return s }}
	case "json":
		to = &jsonWriter{w: bufio.NewWriter(w)}
	case "table":
		to = &tableWriter{w: bufio.NewWriter(w)}
	default:
		return nil, fmt.Errorf("history: want the format table, csv, rawcsv or json, found %q", format)
	}
	if times == "number" {
		return to, nil
	}
	return &timeWriter{RowWriter: to, iso: times == "iso"}, nil
}

// A timeWriter converts times to texts for another RowWriter.
type timeWriter struct {
	RowWriter
	iso     bool
	columns []bool
	row     []any
}

func (t *timeWriter) Begin(columns []Column) error {
	texts := slices.Clone(columns)
	for i, c := range columns {
		t.columns = append(t.columns, c.Time)
		if c.Time {
			texts[i].Type = "text"
		}
	}
	return t.RowWriter.Begin(texts)
}

func (t *timeWriter) Row(row []any) error {
	t.row = append(t.row[:0], row...)
	for i, v := range t.row {
		if at, ok := Time(v); ok && t.columns[i] {
			t.row[i] = at.Local().Format(LocalTime)
			if t.iso {
				t.row[i] = at.Format("2006-01-02T15:04:05.999Z07:00")
			}
		}
	}
	return t.RowWriter.Row(t.row)
}

type csvWriter struct {
	w      *csv.Writer
	disarm func(string) string
	fields []string
}

// formula matches where a text, or a part of it that programs may take for a field, begins like
// a formula, with half-width or full-width signs. In countries with a decimal comma, fields are
// separated by semicolons and quotes within them are ordinary characters.
var formula = regexp.MustCompile(`(?:^"*|[;\t\r\n]"*)[\s\pZ\p{Cc}\p{Cf}]*[=+\-@＝＋－＠]|^[\t\r]`)

// disarm puts a ' before a text that programs may take for a formula, and before each such part
// of it: strangers who connect choose some of what is stored.
func disarm(s string) string {
	if !strings.ContainsAny(s, "=+-@\t\r＝＋－＠") {
		return s
	}
	var b strings.Builder
	done := 0
	for _, at := range formula.FindAllStringIndex(s, -1) {
		if at[0] == 0 && s[0] != ';' {
			b.WriteByte('\'')
		}
		field := at[0] + strings.LastIndexAny(s[at[0]:at[1]], ";\t\r\n") + 1
		if at[0] < field && field < at[1] {
			b.WriteString(s[done:field])
			b.WriteByte('\'')
			done = field
		}
	}
	b.WriteString(s[done:])
	return b.String()
}

func (c *csvWriter) Begin(columns []Column) error {
	for _, col := range columns {
		c.fields = append(c.fields, c.disarm(col.Name))
	}
	return c.w.Write(c.fields)
}

func (c *csvWriter) Row(row []any) error {
	for i, v := range row {
		c.fields[i] = plain(v)
		switch v.(type) {
		case string, []byte:
			c.fields[i] = c.disarm(c.fields[i])
		}
	}
	return c.w.Write(c.fields)
}

func (c *csvWriter) End() error {
	c.w.Flush()
	return c.w.Error()
}

// plain returns a value as text.
func plain(v any) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		// Without an exponent, unless that would be long.
		if a := math.Abs(v); a >= 1e-4 && a < 1e15 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

type jsonWriter struct {
	w    *bufio.Writer
	keys []string
	text []byte
}

func (j *jsonWriter) Begin(columns []Column) error {
	for i, col := range columns {
		key, err := json.Marshal(col.Name)
		if err != nil {
			return err
		}
		sep := ","
		if i == 0 {
			sep = "{"
		}
		j.keys = append(j.keys, sep+string(terminal.EscapeJSON(nil, key))+":")
	}
	return nil
}

func (j *jsonWriter) Row(row []any) error {
	for i, v := range row {
		if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			v = nil
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		j.w.WriteString(j.keys[i])
		j.text = terminal.EscapeJSON(j.text[:0], b)
		j.w.Write(j.text)
	}
	_, err := j.w.WriteString("}\n")
	return err
}

func (j *jsonWriter) End() error { return j.w.Flush() }

// maxCell is the maximum width of a column of a table.
const maxCell = 60

type tableWriter struct {
	w     *bufio.Writer
	rows  [][]string
	right []bool // numbers
	width []int
}

func (t *tableWriter) Begin(columns []Column) error {
	t.right, t.width = make([]bool, len(columns)), make([]int, len(columns))
	names := make([]any, len(columns))
	for i, c := range columns {
		names[i] = c.Name
		t.right[i] = c.Number()
	}
	return t.Row(names)
}

func (t *tableWriter) Row(row []any) error {
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = cell(plain(v))
		t.width[i] = max(t.width[i], utf8.RuneCountInString(cells[i]))
	}
	t.rows = append(t.rows, cells)
	return nil
}

// cell makes a text safe for a terminal, and cuts it.
func cell(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n >= maxCell {
			b.WriteRune('…')
			break
		}
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			r = '·'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (t *tableWriter) End() error {
	for k, cells := range t.rows {
		for i, c := range cells {
			pad := strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c))
			switch {
			case t.right[i]:
				t.w.WriteString(pad + c)
			case i < len(cells)-1:
				t.w.WriteString(c + pad)
			default:
				t.w.WriteString(c)
			}
			if i < len(cells)-1 {
				t.w.WriteString("  ")
			}
		}
		t.w.WriteByte('\n')
		if k == 0 {
			for i, n := range t.width {
				t.w.WriteString(strings.Repeat("─", n))
				if i < len(t.width)-1 {
					t.w.WriteString("  ")
				}
			}
			t.w.WriteByte('\n')
		}
	}
	return t.w.Flush()
}

package layout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/connmapgo/connmap/internal/ranges"
)

// isJSON reports whether a file begins like IPinfo Lite in JSON: an object a line, each with a
// network. The first ones may be bad.
func isJSON(head []byte) bool {
	lines := samples(head)
	return slices.ContainsFunc(lines[:min(len(lines), 5)], func(line []byte) bool {
		return line[0] == '{' && bytes.Contains(line, []byte(`"network"`))
	})
}

// readJSON passes on objects, one a line, whose fields are those of IPinfo's .mmdb files.
func readJSON(f *ranges.File, sink Sink, limit int64) (Report, error) {
	report := Report{Kind: Kind{Name: "IPinfo Lite JSON", Places: true, Networks: true}}
	ids := make(map[Facts]uint32)
	var bad error
	n, inside := 0, 0
	if begin, _ := f.Peek(len(mark)); bytes.Equal(begin, mark) {
		f.Discard(len(mark))
	}
	for report.Rows < limit {
		line, err := f.ReadSlice('\n')
		long := err == bufio.ErrBufferFull
		for err == bufio.ErrBufferFull {
			_, err = f.ReadSlice('\n')
		}
		if err == io.EOF && !long && len(bytes.TrimSpace(line)) == 0 {
			break
		}
		n++
		if err != nil && err != io.EOF {
			return report, fmt.Errorf("line %d: the file is damaged or truncated: %w", n, err)
		}
		if !long && (len(bytes.TrimSpace(line)) == 0 || isComment(line)) {
			continue
		}
		last := err == io.EOF
		p, facts, err := jsonRow(line)
		if long {
			err = fmt.Errorf("the line has more than %d bytes", f.Reader.Size())
		}
		if err != nil {
			if last {
				report.Truncated = true
				report.Remarks = append(report.Remarks, "it is truncated in its last line")
			}
			if report.Skipped++; bad == nil {
				bad = fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		report.Rows++
		if p != p.Masked() {
			inside++
		}
		id, ok := ids[facts]
		if !ok {
			if id, err = sink.ID(facts); err != nil {
				return report, fmt.Errorf("line %d: %w", n, err)
			}
			if len(ids) < maxKnown {
				ids[facts] = id
			}
		}
		if id != 0 {
			if err := sink.Add(ranges.Of(p), id); err != nil {
				return report, fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	report.unaligned(inside)
	return report.finish(bad)
}

func jsonRow(line []byte) (netip.Prefix, Facts, error) {
	var m map[string]any
	if !utf8.Valid(line) {
		line = []byte(UTF8(line)) // the decoder would replace what is not UTF-8
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return netip.Prefix{}, Facts{}, errors.New("no JSON object")
	}
	p, ok := parseNetwork([]byte(textAt(m, "network")))
	if !ok {
		return netip.Prefix{}, Facts{}, fmt.Errorf("%.60q is not a network such as 192.0.2.0/24", textAt(m, "network"))
	}
	facts, err := mmdbFacts(m)
	return p, facts, err
}

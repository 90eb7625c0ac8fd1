package sqlite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/history"
)

// timeColumns are those that hold Unix seconds.
var timeColumns = []string{"timestamp", "opened", "last_opened", "closed"}

// A rewriting is a question of which the comparisons of times and of asn mean what
// they say, whether they are with numbers or with texts such as '2026-01-01' and 'AS64496'.
type rewriting struct {
	sql string
	// stable is sql where rows that its order leaves equal come in that of their numbers, as
	// they do in a file without indexes; empty, or wrong SQL, where there is no such order.
	stable string
	times  map[string]bool // names of columns of the answer that hold times, in lower case
	dates  bool            // it names a date in some way
	// modifiers are the names of parameters, without colon, that are modifiers of date functions.
	modifiers []string
}

// rewrite has the function connmap_time read what times are compared with, and
// connmap_asn what asn is, and tells SQLite's date functions that they are given Unix
// seconds. It only adds text. It fails where a time is used as a text.
//
// It knows times by the names of their columns, and by those that an alias and WITH give to them
// and to min, max, coalesce, ifnull, nullif, iif, abs, round and sums with them.
func rewrite(sql string) (*rewriting, error) {
	r := &rewriter{sql: sql, tokens: tokenize(sql)}
	r.pair()
	asn := r.named([]string{"asn"})
	times := r.named(timeColumns)
	if err := r.refuseTexts(times); err != nil {
		return nil, err
	}
	r.comparisons(times, comparison{value: "connmap_time"})
	r.comparisons(asn, comparison{value: "connmap_asn", number: "connmap_asn_number"})
	r.dateFunctions(times)
	sql, stable := r.apply(), ""
	if at := r.ordered(); at > 0 {
		r.insert(at, ", rowid")
		stable = r.apply()
	}
	return &rewriting{sql, stable, r.shown(), r.dates, r.modifiers}, nil
}

type rewriter struct {
	sql    string
	tokens []token
	match  []int // of a parenthesis, CASE or END the other one; else -1
	edits  []edit
	dates  bool

	modifiers []string
}

// An edit inserts text at a byte.
type edit struct {
	at   int
	text string
}

// A span is tokens from one until before another.
type span struct{ from, to int }

func (r *rewriter) pair() {
	r.match = make([]int, len(r.tokens))
	var open []int
	for i, t := range r.tokens {
		r.match[i] = -1
		switch {
		case t.is("(", "case"):
			open = append(open, i)
		case t.is(")", "end") && len(open) > 0:
			o := open[len(open)-1]
			if r.tokens[o].is("(") == t.is(")") {
				open = open[:len(open)-1]
				r.match[o], r.match[i] = i, o
			}
		}
		r.dates = r.dates || t.is("date", "datetime", "current_timestamp", "current_date") || t.kind == text && dateLike.MatchString(t.text)
	}
}

var (
	comparing = []string{"=", "==", "<>", "!=", "<", "<=", ">", ">=", "is"}
	matching  = []string{"like", "glob", "regexp", "match"}
	valued    = []string{"min", "max", "coalesce", "ifnull", "nullif", "iif", "if", "abs", "round"}
)

// stop reports whether an operand ends before a token, other than by a parenthesis.
func (r *rewriter) stop(i int) bool {
	t := r.tokens[i]
	return t.kind == word && stops[t.text] || t.is(",", ";") || t.kind == symbol && slices.Contains(comparing, t.text)
}

// after returns the operand that begins at a token.
func (r *rewriter) after(i int) span {
	j := i
	for j < len(r.tokens) && !r.stop(j) {
		if t := r.tokens[j]; t.is(")", "end") || t.is("(", "case") && r.match[j] < 0 || j > i && r.bareAlias(j) {
			break
		} else if t.is("(", "case") {
			j = r.match[j]
		}
		j++
	}
	return span{i, j}
}

// before returns the operand that ends before a token.
func (r *rewriter) before(i int) span {
	j := i
	for j > 0 && !r.stop(j-1) {
		if t := r.tokens[j-1]; t.is("(", "case") || t.is(")", "end") && r.match[j-1] < 0 {
			break
		} else if t.is(")", "end") {
			j = r.match[j-1] + 1
		}
		j--
	}
	return span{j, i}
}

// split returns the parts of a list between commas.
func (r *rewriter) split(s span) (parts []span) {
	from := s.from
	for i := s.from; i < s.to; i++ {
		switch t := r.tokens[i]; {
		case t.is("(", "case") && r.match[i] > i:
			i = r.match[i]
		case t.is(","):
			parts = append(parts, span{from, i})
			from = i + 1
		}
	}
	return append(parts, span{from, s.to})
}

// inside returns what a span has in parentheses if it is nothing else, and whether it is
// a subquery.
func (r *rewriter) inside(s span) (in span, query, ok bool) {
	if s.from >= s.to || !r.tokens[s.from].is("(") || r.match[s.from] != s.to-1 {
		return s, false, false
	}
	in = span{s.from + 1, s.to - 1}
	return in, in.from < in.to && r.tokens[in.from].is("select", "with", "values"), true
}

// selected returns what the columns of a subquery are, or nothing.
func (r *rewriter) selected(s span) []span {
	if s.from >= s.to || !r.tokens[s.from].is("select") {
		return nil
	}
	from := s.from + 1
	if from < s.to && r.tokens[from].is("distinct", "all") {
		from++
	}
	to := from
	for ; to < s.to && !r.tokens[to].is("from", "where", "union", "order", "group", "limit"); to++ {
		if r.tokens[to].is("(", "case") && r.match[to] > to {
			to = r.match[to]
		}
	}
	return r.split(span{from, to})
}

// has reports whether the value of an operand is one of the names, or computed from
// one.
func (r *rewriter) has(names map[string]bool, s span) bool {
	for i := s.from; i < s.to; i++ {
		if r.tokens[i].is("||") {
			return false // a text is made of it
		} else if r.tokens[i].is("(", "case") && r.match[i] > i {
			i = r.match[i]
		}
	}
	for i := s.from; i < s.to; i++ {
		t := r.tokens[i]
		switch {
		case t.is("as"):
			return false // the type of a CAST, or the name, comes next
		case t.is("case") && r.match[i] > i:
			i = r.match[i]
		case t.is("(") && r.match[i] > i:
			in, query, _ := r.inside(span{i, r.match[i] + 1})
			switch called := i > s.from && r.tokens[i-1].name(); {
			case called && !r.tokens[i-1].is(valued...):
			case query:
				if list := r.selected(in); len(list) == 1 && r.has(names, list[0]) {
					return true
				}
			case called:
				for _, p := range r.split(in) {
					if r.value(p) && r.has(names, p) {
						return true
					}
				}
			case len(r.split(in)) == 1 && r.value(in) && r.has(names, in):
				return true
			}
			i = r.match[i]
		case t.name() && names[t.text] && (i+1 >= len(r.tokens) || !r.tokens[i+1].is("(", ".")):
			return true
		}
	}
	return false
}

// value reports whether a span is an operand rather than a condition.
func (r *rewriter) value(s span) bool { return r.after(s.from).to >= s.to }

// named adds to names those that AS gives to them.
func (r *rewriter) named(list []string) map[string]bool {
	names := make(map[string]bool)
	for _, n := range list {
		names[n] = true
	}
	return r.aliases(names, r.has)
}

func (r *rewriter) aliases(names map[string]bool, is func(map[string]bool, span) bool) map[string]bool {
	const most = 10 // names of names of names
	for n := 0; n < most; n++ {
		grown := false
		for i := 1; i+1 < len(r.tokens); i++ {
			next := r.tokens[i+1]
			if r.tokens[i].is("as") && next.name() && !names[next.text] && is(names, r.before(i)) {
				names[next.text] = true
				grown = true
			}
			if t := r.tokens[i]; r.bareAlias(i) && !names[t.text] && is(names, r.before(i)) {
				names[t.text] = true
				grown = true
			}
			if !r.tokens[i].is("as") {
				continue
			}
			columns, list := r.common(i)
			for k, c := range columns {
				if !names[c] && is(names, list[k]) {
					names[c] = true
					grown = true
				}
			}
		}
		if !grown {
			break
		}
	}
	return names
}

// bareAlias reports whether a token is a name that an operand gets without AS: two names
// stand side by side nowhere else.
func (r *rewriter) bareAlias(i int) bool {
	if !r.tokens[i].name() || i+1 < len(r.tokens) && !r.tokens[i+1].is(",", "from", ")", ";", "having", "order", "where", "limit", "union") {
		return false
	}
	last := r.tokens[i-1]
	return last.name() && !last.is("end") || last.is(")", "end") && r.match[i-1] >= 0 || last.kind == text || last.kind == numeral || last.kind == param
}

// common returns the names of columns of WITH t(a, b) AS (SELECT c, d ...), by its AS, and
// what they are.
func (r *rewriter) common(as int) (columns []string, list []span) {
	in := as + 1
	for in < len(r.tokens) && r.tokens[in].is("not", "materialized") {
		in++
	}
	if in >= len(r.tokens) || !r.tokens[in].is("(") || r.match[in] < 0 || !r.tokens[as-1].is(")") || r.match[as-1] < 0 {
		return nil, nil
	}
	for _, p := range r.split(span{r.match[as-1] + 1, as - 1}) {
		if p.to-p.from != 1 || !r.tokens[p.from].name() {
			return nil, nil
		}
		columns = append(columns, r.tokens[p.from].text)
	}
	if list = r.selected(span{in + 1, r.match[in]}); len(list) != len(columns) {
		return nil, nil
	}
	return columns, list
}

// shown returns the names of columns that are times, and not, say, durations.
func (r *rewriter) shown() map[string]bool {
	names := make(map[string]bool)
	for _, n := range timeColumns {
		names[n] = true
	}
	is := func(names map[string]bool, s span) bool { return r.whole(s) && r.isTime(names, s) }
	r.aliases(names, is)
	// A count, or what a comparison says, may have got the name of a time.
	for i := 1; i < len(r.tokens); i++ {
		s := span{}
		switch t := r.tokens[i]; {
		case t.name() && names[t.text] && r.tokens[i-1].is("as"):
			s = r.before(i - 1)
		case t.name() && names[t.text] && r.bareAlias(i):
			s = r.before(i)
		default:
			continue
		}
		if !r.whole(s) || s.from < s.to && r.tokens[s.from].is("count", "sum", "total", "length") {
			delete(names, r.tokens[i].text)
		}
	}
	return names
}

// whole reports whether an operand is all that a column of an answer is, before its name.
func (r *rewriter) whole(s span) bool {
	return s.from > 0 && r.tokens[s.from-1].is("select", "distinct", "all", ",")
}

// isTime reports whether a span is a column of a name, or the min or max of such ones.
func (r *rewriter) isTime(names map[string]bool, s span) bool {
	for s.from < s.to && r.tokens[s.from].is("+") {
		s.from++
	}
	if in, query, ok := r.inside(s); ok && !query {
		return r.isTime(names, in)
	}
	n := s.to - s.from
	if n >= 3 && r.tokens[s.from].is("min", "max", "coalesce", "ifnull", "nullif", "round") {
		in, query, ok := r.inside(span{s.from + 1, s.to})
		if !ok || query {
			return false
		}
		parts := r.split(in)
		if r.tokens[s.from].is("nullif", "round") {
			parts = parts[:1]
		}
		return r.isTime(names, parts[0]) && !slices.ContainsFunc(parts, func(p span) bool { return !r.number(p) && !r.isTime(names, p) })
	}
	for n >= 3 && r.tokens[s.from].name() && r.tokens[s.from+1].is(".") {
		s.from, n = s.from+2, n-2
	}
	return n == 1 && r.tokens[s.from].name() && names[r.tokens[s.from].text]
}

// timeColumn reports whether the name that SQLite gives to a column of an answer is that
// of a time.
func timeColumn(names map[string]bool, name string) bool {
	if i := strings.LastIndexByte(name, ':'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" {
		name = name[:i] // the second of its name
	}
	if names[strings.ToLower(name)] {
		return true
	}
	r := &rewriter{sql: name, tokens: tokenize(name)}
	r.pair()
	return len(name) < 200 && r.isTime(names, span{0, len(r.tokens)})
}

func (r *rewriter) insert(at int, text string) { r.edits = append(r.edits, edit{at, text}) }

// wrap has a function read an operand.
func (r *rewriter) wrap(s span, function string) {
	from := s.from
	for from < s.to && r.tokens[from].is("+", "-") {
		from++
	}
	if from == s.to || s.to-from == 1 && r.tokens[from].is("null", "true", "false") {
		return
	}
	r.insert(r.tokens[s.from].start, function+"(")
	r.insert(r.tokens[s.to-1].end, ")")
}

// A comparison names functions: value reads what a column is compared with, and number
// the column itself where its order among numbers is asked for. Without number a column
// is one.
type comparison struct{ value, number string }

// comparisons has a function read what the names are compared with.
func (r *rewriter) comparisons(names map[string]bool, f comparison) {
	for i, t := range r.tokens {
		left := i
		if i > 0 && r.tokens[i-1].is("not") && t.kind == word {
			left--
		}
		switch {
		case t.kind == symbol && slices.Contains(comparing, t.text), t.is("is"):
			right := i + 1
			for t.is("is") && right < len(r.tokens) && r.tokens[right].is("not", "distinct", "from") {
				right++
			}
			a, b := r.before(left), r.after(right)
			if t.text[0] == '<' && t.text != "<>" || t.text[0] == '>' {
				r.order(names, f, a, b)
			} else {
				r.compare(names, f.value, a, b)
			}
		case t.is("case") && r.match[i] > i && !r.tokens[i+1].is("when"):
			r.cases(names, f.value, span{i + 1, r.match[i]})
		case t.is("between"):
			a := r.after(i + 1)
			if a.to >= len(r.tokens) || !r.tokens[a.to].is("and") {
				continue
			}
			x, b := r.before(left), r.after(a.to+1)
			switch {
			case f.number != "" && r.has(names, x) && r.number(a) && r.number(b):
				r.wrap(x, f.number)
			case r.has(names, x):
				r.compare(names, f.value, x, a)
				r.compare(names, f.value, x, b)
			case r.has(names, a) || r.has(names, b):
				r.wrap(x, f.value)
			}
		case t.is("in") && i+1 < len(r.tokens) && r.tokens[i+1].is("(") && r.match[i+1] > i:
			x := r.before(left)
			in, query, _ := r.inside(span{i + 1, r.match[i+1] + 1})
			switch {
			case query && r.has(names, x):
				if list := r.selected(in); len(list) == 1 && r.has(names, list[0]) {
					continue
				}
				r.insert(r.tokens[i+1].end, "WITH connmap_in(v) AS (")
				r.insert(r.tokens[in.to].start, ") SELECT "+f.value+"(v) FROM connmap_in")
			case !query && in.from < in.to:
				wrapped := false
				for _, p := range r.split(in) {
					if r.has(names, x) {
						r.compare(names, f.value, x, p)
					} else if r.has(names, p) && !wrapped {
						r.wrap(x, f.value)
						wrapped = true
					}
				}
			}
		}
	}
}

// compare has a function read the one of two operands that the other, which has a name,
// is compared with. Rows are compared one by one.
func (r *rewriter) compare(names map[string]bool, function string, a, b span) {
	in, query, ok := r.inside(a)
	in2, query2, ok2 := r.inside(b)
	if ok && ok2 && !query && !query2 {
		list, list2 := r.split(in), r.split(in2)
		if len(list) > 1 && len(list) == len(list2) {
			for i := range list {
				r.compare(names, function, list[i], list2[i])
			}
			return
		}
	}
	switch left, right := r.has(names, a), r.has(names, b); {
	case left && !right:
		r.wrap(b, function)
	case right && !left:
		r.wrap(a, function)
	}
}

// order is compare for operands of which one is less than the other.
func (r *rewriter) order(names map[string]bool, f comparison, a, b span) {
	switch {
	case f.number != "" && r.has(names, a) && r.number(b):
		r.wrap(a, f.number)
	case f.number != "" && r.has(names, b) && r.number(a):
		r.wrap(b, f.number)
	default:
		r.compare(names, f.value, a, b)
	}
}

// number reports whether an operand is a number in digits.
func (r *rewriter) number(s span) bool {
	for s.from < s.to && r.tokens[s.from].is("+", "-") {
		s.from++
	}
	return s.to-s.from == 1 && r.tokens[s.from].kind == numeral
}

// cases has a function read what CASE name WHEN compares a name with. The span is what
// stands between CASE and END.
func (r *rewriter) cases(names map[string]bool, function string, s span) {
	x := r.after(s.from)
	for i := x.to; i < s.to; i++ {
		if r.tokens[i].is("(", "case") && r.match[i] > i {
			i = r.match[i]
		} else if r.tokens[i].is("when") {
			r.compare(names, function, x, r.after(i+1))
		}
	}
}

// refuseTexts fails where a time, which people may take for a text, is matched with a
// pattern or cut.
func (r *rewriter) refuseTexts(names map[string]bool) error {
	for i, t := range r.tokens {
		var s span
		switch {
		case t.is(matching...) && i > 0 && !(i+1 < len(r.tokens) && r.tokens[i+1].is("(") && r.before(i).from == i):
			left := i
			if r.tokens[i-1].is("not") {
				left--
			}
			s = r.before(left)
		case t.is("substr", "substring") && i+1 < len(r.tokens) && r.tokens[i+1].is("(") && r.match[i+1] > i:
			s = r.split(span{i + 2, r.match[i+1]})[0]
		default:
			continue
		}
		if s.from < s.to && r.has(names, s) {
			what := fmt.Sprintf("%.60s", r.sql[r.tokens[s.from].start:r.tokens[s.to-1].end])
			return &history.QueryError{Offset: r.tokens[s.from].start, Msg: fmt.Sprintf("%[1]s is a number, Unix seconds: compare it as with unixepoch('2026-01-01'), or the text strftime('%%Y-%%m-%%d', %[1]s, 'unixepoch')", what)}
		}
	}
	return nil
}

// dateFunctions adds the modifier unixepoch to functions of times that lack it, and notes
// which parameters are modifiers.
func (r *rewriter) dateFunctions(times map[string]bool) {
	for i, t := range r.tokens {
		at := 0
		switch {
		case i+1 >= len(r.tokens) || !r.tokens[i+1].is("(") || r.match[i+1] < 0:
			continue
		case t.is("date", "time", "datetime", "julianday", "unixepoch"):
		case t.is("strftime"):
			at = 1
		default:
			continue
		}
		args := r.split(span{i + 2, r.match[i+1]})
		for _, m := range args[min(at+1, len(args)):] {
			if m.to-m.from == 1 && r.tokens[m.from].kind == param {
				r.modifiers = append(r.modifiers, r.sql[r.tokens[m.from].start+1:r.tokens[m.from].end])
			}
		}
		if at >= len(args) || !r.has(times, args[at]) {
			continue
		}
		if at+1 < len(args) {
			if m := args[at+1]; m.to-m.from == 1 && slices.Contains([]string{"unixepoch", "auto", "julianday"}, strings.ToLower(r.tokens[m.from].text)) {
				continue
			}
		}
		r.insert(r.tokens[args[at].to-1].end, ", 'unixepoch'")
	}
}

// ordered returns where the last term of the order of a simple SELECT ends; 0: there is
// none.
func (r *rewriter) ordered() (at int) {
	if len(r.tokens) == 0 || !r.tokens[0].is("select") {
		return 0
	}
	for i := 0; i < len(r.tokens); i++ {
		switch t := r.tokens[i]; {
		case t.is("(", "case") && r.match[i] > i:
			i = r.match[i]
		case t.is("union", "intersect", "except", "group"):
			return 0
		case at > 0 && t.is("limit", ";"):
			return at
		case t.is("order"):
			at = t.end
		}
		if at > 0 {
			at = r.tokens[i].end
		}
	}
	return at
}

func (r *rewriter) apply() string {
	if len(r.edits) == 0 {
		return r.sql
	}
	// What ends at a byte ends before others begin or go on there.
	slices.SortStableFunc(r.edits, func(a, b edit) int {
		if a.at == b.at && (a.text == ")") != (b.text == ")") {
			return map[bool]int{true: -1, false: 1}[a.text == ")"]
		}
		return a.at - b.at
	})
	var b strings.Builder
	at := 0
	for _, e := range r.edits {
		b.WriteString(r.sql[at:e.at])
		b.WriteString(e.text)
		at = e.at
	}
	b.WriteString(r.sql[at:])
	return b.String()
}

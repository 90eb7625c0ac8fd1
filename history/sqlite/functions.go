package sqlite

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"regexp/syntax"

	"zombiezen.com/go/sqlite"

	"github.com/connmapgo/connmap/history"
)

// maxCached is the maximum number of patterns and prefixes that a connection caches.
const maxCached = 64

// A failure is the error of the first function that failed.
type failure struct {
	err  error
	stop func() // interrupts the question
}

// registerFunctions adds the functions of the console to a connection:
//
//	cidr_match(ip, prefix)                  whether an address lies in a prefix such as 10.0.0.0/8
//	haversine(lat, lon, lat2, lon2)         the distance of two places in km
//	regexp(pattern, text), text REGEXP pattern   in Go's syntax
//	rule(local_port, port, programname, exe)     the rule's label
//	connmap_time(value), connmap_asn(value), connmap_asn_number(asn)   for rewrite
//
// Each is NULL if an argument is. Check the failure after each step: this version of the library
// returns the error of a function as its result.
func registerFunctions(conn *sqlite.Conn, o ConsoleOptions) (*failure, error) {
	failed := &failure{stop: func() {}}
	prefixes := cached(netip.ParsePrefix)
	patterns := cached(compile)
	for name, f := range map[string]struct {
		args int
		f    func(args []sqlite.Value) (sqlite.Value, error)
	}{
		"cidr_match": {2, func(args []sqlite.Value) (sqlite.Value, error) {
			p, err := prefixes(args[1].Text())
			if err != nil {
				return sqlite.Value{}, fmt.Errorf("cidr_match: want a prefix such as 10.0.0.0/8, found %.60q", args[1].Text())
			}
			a, err := netip.ParseAddr(args[0].Text())
			return boolean(err == nil && within(p, a)), nil
		}},
		"haversine": {4, func(args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.FloatValue(haversine(args[0].Float(), args[1].Float(), args[2].Float(), args[3].Float())), nil
		}},
		"regexp": {2, func(args []sqlite.Value) (sqlite.Value, error) {
			re, err := patterns(args[0].Text())
			if err != nil {
				return sqlite.Value{}, fmt.Errorf("REGEXP: %w", err)
			}
			return boolean(re.MatchString(args[1].Text())), nil
		}},
		"connmap_time":       {1, func(args []sqlite.Value) (sqlite.Value, error) { return timeValue(args[0]) }},
		"connmap_asn":        {1, func(args []sqlite.Value) (sqlite.Value, error) { return asnValue(args[0]) }},
		"connmap_asn_number": {1, func(args []sqlite.Value) (sqlite.Value, error) { return asnNumber(args[0]) }},
		"rule": {4, func(args []sqlite.Value) (sqlite.Value, error) {
			if o.Rule == nil {
				return sqlite.Value{}, nil
			}
			return sqlite.TextValue(o.Rule(uint16(args[0].Int64()), uint16(args[1].Int64()), args[2].Text(), args[3].Text())), nil
		}},
	} {
		err := conn.CreateFunction(name, &sqlite.FunctionImpl{
			NArgs: f.args, Deterministic: true,
			Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
				for _, a := range args {
					if a.Type() == sqlite.TypeNull || failed.err != nil {
						return sqlite.Value{}, nil
					}
				}
				v, err := f.f(args)
				if err != nil {
					failed.err = &history.QueryError{Offset: -1, Msg: err.Error()}
					failed.stop()
				}
				return v, err
			},
		})
		if err != nil {
			return nil, err
		}
	}
	for name, args := range unbounded {
		err := conn.CreateFunction(name, &sqlite.FunctionImpl{
			NArgs: args,
			MakeAggregate: func(sqlite.Context) (sqlite.AggregateFunction, error) {
				return refused(func() {
					failed.err = &history.QueryError{Offset: -1, Msg: name + " takes memory without limit: write '[' || group_concat(json_quote(ip)) || ']', or have the answer as JSON"}
					failed.stop()
				}), nil
			},
		})
		if err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// unbounded are the functions of SQLite, with their numbers of arguments, that build a result in
// memory and check textLimit only at the end.
var unbounded = map[string]int{"json_group_array": 1, "jsonb_group_array": 1, "json_group_object": 2, "jsonb_group_object": 2}

// refused replaces a function that must not be called.
type refused func()

func (r refused) Step(sqlite.Context, []sqlite.Value) error          { r(); return nil }
func (r refused) WindowInverse(sqlite.Context, []sqlite.Value) error { return nil }
func (r refused) WindowValue(sqlite.Context) (sqlite.Value, error)   { r(); return sqlite.Value{}, nil }
func (r refused) Finalize(sqlite.Context)                            {}

const (
	maxPattern = 1000 // bytes
	// maxInstructions is how many instructions a pattern may have, each of which is
	// tried at each byte: 1,000 take 0.1 s for 16 KiB (BenchmarkPattern).
	maxInstructions = 1000
)

// compile refuses patterns that may take long, since nothing can interrupt the search.
func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("the pattern has more than %d bytes", maxPattern)
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxInstructions {
		return nil, errors.New("the pattern takes too long: shorten it, and the numbers in {}")
	}
	return regexp.Compile(pattern)
}

func boolean(b bool) sqlite.Value {
	if b {
		return sqlite.IntegerValue(1)
	}
	return sqlite.IntegerValue(0)
}

// cached caches the results of parse.
func cached[T any](parse func(string) (T, error)) func(string) (T, error) {
	type result struct {
		v   T
		err error
	}
	known := make(map[string]result)
	return func(s string) (T, error) {
		r, ok := known[s]
		if !ok {
			if len(known) >= maxCached {
				clear(known)
			}
			r.v, r.err = parse(s)
			known[s] = r
		}
		return r.v, r.err
	}
}

// within reports whether a prefix contains an address. IPv4-mapped IPv6 counts as IPv4.
func within(p netip.Prefix, a netip.Addr) bool {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Contains(a.Unmap().WithZone(""))
}

// haversine returns the distance of two places on a sphere in km.
func haversine(lat, lon, lat2, lon2 float64) float64 {
	const rad = math.Pi / 180
	sin := func(x float64) float64 { s := math.Sin(x * rad / 2); return s * s }
	h := sin(lat2-lat) + math.Cos(lat*rad)*math.Cos(lat2*rad)*sin(lon2-lon)
	return 2 * earth * math.Asin(math.Sqrt(min(1, h)))
}

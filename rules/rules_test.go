package rules

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parse(tb testing.TB, text string) *Set {
	s, err := Parse(strings.NewReader(text))
	require.NoError(tb, err)
	return s
}

func TestParse(t *testing.T) {
	blue := color.NRGBA{1, 2, 3, 4}
	tests := []struct {
		name, text string
		want       []Rule
	}{
		{"empty", "", nil},
		{"comments", "# a\n\n   \n  # \"b\",\n", nil},
		{"local", `"Web",local,443,1,2,3,4,0,0`, []Rule{{"Web", Local, "443", blue, false, false, 1}}},
		{"range", `"IRC",peer,6660-6697,1,2,3,4,1,0` + "\n", []Rule{{"IRC", Peer, "6660-6697", blue, true, false, 1}}},
		{"app", `"T",app,/usr/bin/deluge,1,2,3,4,0,1`, []Rule{{"T", App, "/usr/bin/deluge", blue, false, true, 1}}},
		{"no quotes", `My web,local,443,1,2,3,4,0,0`, []Rule{{"My web", Local, "443", blue, false, false, 1}}},
		{"all quotes", `"a","app","b, c","1","2","3","4","1","0"`, []Rule{{"a", App, "b, c", blue, true, false, 1}}},
		{"quotes inside", `"say ""a"", b",local,443,1,2,3,4,0,0`, []Rule{{`say "a", b`, Local, "443", blue, false, false, 1}}},
		{"only quotes", `"""",app,"""x""",1,2,3,4,0,0`, []Rule{{`"`, App, `"x"`, blue, false, false, 1}}},
		{"bare quotes", `my "a" b,local,443,1,2,3,4,0,0`, []Rule{{`my "a" b`, Local, "443", blue, false, false, 1}}},
		{"blanks", " \t\"a\" ,  local ,\t10 - 20 , 1 , 2 , 3 , 4 , 0 , 0 \t", []Rule{{"a", Local, "10 - 20", blue, false, false, 1}}},
		{"blanks in quotes", `" a ",local,443,1,2,3,4,0,0`, []Rule{{" a ", Local, "443", blue, false, false, 1}}},
		{"words", "a,Local,1,1,2,3,4,TRUE,no\nb,PEER,65535,1,2,3,4,yes,false", []Rule{
			{"a", Local, "1", blue, true, false, 1}, {"b", Peer, "65535", blue, true, false, 2}}},
		{"as connmapperl writes", "# Format: KeyLabel,Type,Target,Red,Green,Blue,Alpha,ShowText,BeepOnMatch\n" +
			"\"Backup\",local,873,0.2,0.5,1,0.8,1,0\n\"Radio\",app,\"/usr/bin/example-radio\",1.0,0.4,0.7,0.8,0,1\n", []Rule{
			{"Backup", Local, "873", color.NRGBA{51, 128, 255, 204}, true, false, 2},
			{"Radio", App, "/usr/bin/example-radio", color.NRGBA{255, 102, 179, 204}, false, true, 3}}},
		{"byte order mark and CR LF", "\ufeff# x\r\n\r\na,local,1,1,2,3,4,0,0\r\nb,peer,2,1,2,3,4,0,0\r\n", []Rule{
			{"a", Local, "1", blue, false, false, 3}, {"b", Peer, "2", blue, false, false, 4}}},
		{"same label", "a,local,1,1,2,3,4,0,0\na,local,2,1,2,3,4,0,0\n", []Rule{
			{"a", Local, "1", blue, false, false, 1}, {"a", Local, "2", blue, false, false, 2}}},
		{"Latin-1 comment", "# caf\xe9\na,local,1,1,2,3,4,0,0", []Rule{{"a", Local, "1", blue, false, false, 2}}},
		{"long line", "#" + strings.Repeat("x", 1<<19) + "\n" + strings.Repeat("y", 1<<18) + ",local,1,1,2,3,4,0,0",
			[]Rule{{strings.Repeat("y", 1<<18), Local, "1", blue, false, false, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, append(tt.want, Other), parse(t, tt.text).Rules())
		})
	}
}

func TestParseErrors(t *testing.T) {
	const good = `"a",local,443,1,2,3,4,0,0`
	tests := []struct{ name, text, want string }{
		{"fields", "a,local,443", `expected the 9 fields "Label",type,target,R,G,B,A,ShowText,Beep, found 3 in "a,local,443"`},
		{"one more", good + ",,1", `expected the 9 fields "Label",type,target,R,G,B,A,ShowText,Beep, found 11 in "\"a\",local,443,1,2,3,4,0,0,,1"`},
		{"label", `"",local,443,1,2,3,4,0,0`, "expected a label, found an empty field"},
		{"type", `a,remote,443,1,2,3,4,0,0`, `expected the type local, peer, app or name, found "remote"`},
		{"port", `a,local,http,1,2,3,4,0,0`, `expected a port from 1 to 65535 or a range such as 6660-6697, found "http"`},
		{"port 0", `a,local,0,1,2,3,4,0,0`, `expected a port from 1 to 65535 or a range such as 6660-6697, found "0"`},
		{"port 65536", `a,peer,65536,1,2,3,4,0,0`, `expected a port from 1 to 65535 or a range such as 6660-6697, found "65536"`},
		{"open range", `a,peer,10-,1,2,3,4,0,0`, `expected a port from 1 to 65535 or a range such as 6660-6697, found "10-"`},
		{"range down", `a,peer,20-10,1,2,3,4,0,0`, `expected a range from its lower to its higher port, found "20-10"`},
		{"program", `a,app, ,1,2,3,4,0,0`, "expected the name or path of a program, found an empty field"},
		{"name", `a,name,mail.*.example.com,1,2,3,4,0,0`, `expected a name such as www.example.com or *.example.com, in Punycode if it is not in ASCII, found "mail.*.example.com"`},
		{"empty name", `a,name,*.,1,2,3,4,0,0`, `expected a name such as www.example.com or *.example.com, in Punycode if it is not in ASCII, found "*."`},
		{"green", `a,app,x,1,256,3,4,0,0`, `expected G from 0 to 1 or from 0 to 255, found "256"`},
		{"opacity", `a,app,x,1,2,3,-1,0,0`, `expected A from 0 to 1 or from 0 to 255, found "-1"`},
		{"no number", `a,app,x,NaN,2,3,1,0,0`, `expected R from 0 to 1 or from 0 to 255, found "NaN"`},
		{"large exponent", `a,app,x,1,2,1e3,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "1e3"`},
		{"only an exponent", `a,app,x,1,2,e1,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "e1"`},
		{"below 0", `a,app,x,1,0.5,-1e-9,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "-1e-9"`},
		{"hexadecimal", `a,app,x,1,2,0x1p1,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "0x1p1"`},
		{"infinity", `a,app,x,1,2,+Inf,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "+Inf"`},
		{"no component", `a,app,x,1,2,,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found ""`},
		{"only a point", `a,app,x,1,2,.,1,0,0`, `expected B from 0 to 1 or from 0 to 255, found "."`},
		{"too large a fraction", `a,app,x,1.5,0,0,1,0,0`, `expected R, G, B and A all from 0 to 1, or all whole and from 0 to 255, found "1.5,0,0,1"`},
		{"opacity of the other kind", `a,app,x,255,0,0,0.8,0,0`, `expected R, G, B and A all from 0 to 1, or all whole and from 0 to 255, found "255,0,0,0.8"`},
		{"ShowText", `a,app,x,1,2,3,4,2,0`, `expected ShowText 0 or 1, found "2"`},
		{"Beep", `a,app,x,1,2,3,4,1,`, `expected Beep 0 or 1, found ""`},
		{"open quote", `"a,app,x,1,2,3,4,0,0`, `expected a " that ends the field, found none after "\"a,app,x,1,2,3,4,0,0"`},
		{"text after quote", `"a"b,app,x,1,2,3,4,0,0`, `expected a comma after the " that ends the field, found "b,app,x,1,2,3,4,0,0": write "" for a quote inside`},
		{"not UTF-8", "caf\xe9,app,x,1,2,3,4,0,0", `expected text in UTF-8, found "caf\xe9,app,x,1,2,3,4,0,0": save the file as UTF-8`},
		{"control character", "\x1b[31m,app,x,1,2,3,4,0,0", `expected text, found the control character "\x1b"`},
		{"found is cut", strings.Repeat("y", 99), `expected the 9 fields "Label",type,target,R,G,B,A,ShowText,Beep, found 1 in "` + strings.Repeat("y", 60) + `"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse(strings.NewReader("# rules\r\n" + good + "\r\n\r\n" + tt.text + "\r\n" + good))
			var se *SyntaxError
			require.ErrorAs(t, err, &se)
			assert.Equal(t, SyntaxError{4, tt.want}, *se)
			assert.EqualError(t, err, "line 4: "+tt.want)
			blue := color.NRGBA{1, 2, 3, 4}
			assert.Equal(t, []Rule{{"a", Local, "443", blue, false, false, 2}, {"a", Local, "443", blue, false, false, 5}, Other}, s.Rules())
		})
	}
	for n, want := range map[int]string{
		2:    "line 2: X\nline 3: X",
		3:    "line 2: X\nline 3: X\nline 4: X",
		4:    "line 2: X\nline 3: X\nline 4: X\nand 1 more bad line",
		5000: "line 2: X\nline 3: X\nline 4: X\nand 4997 more bad lines",
	} {
		t.Run(fmt.Sprint(n, " bad lines"), func(t *testing.T) {
			s, err := Parse(strings.NewReader(good + "\n" + strings.Repeat("x\n", n) + good))
			var bad *SyntaxErrors
			require.ErrorAs(t, err, &bad)
			assert.Len(t, bad.First, min(n, 1000))
			assert.Equal(t, n, len(bad.First)+bad.More)
			assert.Equal(t, want, strings.ReplaceAll(err.Error(), `expected the 9 fields "Label",type,target,R,G,B,A,ShowText,Beep, found 1 in "x"`, "X"))
			assert.Len(t, s.Rules(), 3, "the others hold")
		})
	}
	t.Run("reader", func(t *testing.T) {
		wrong := errors.New("disk on fire")
		s, err := Parse(io.MultiReader(strings.NewReader(good), iotest.ErrReader(wrong)))
		assert.ErrorIs(t, err, wrong)
		assert.Nil(t, s)
	})
}

// TestOtherFiles: a file that is not a rules file is an error that says what it is.
func TestOtherFiles(t *testing.T) {
	const good = `"a",local,443,1,2,3,4,0,0`
	wide := func(s string, low int) string {
		b := make([]byte, 2*len(s))
		for i := range s {
			b[2*i+low] = s[i]
		}
		return string(b)
	}
	settings := "location_x 20\nlocation_y 500\nmap_width 1000\nblack false\nupdate_interval 1\n"
	tests := []struct{ name, text, want string }{
		{"UTF-16 LE", "\xff\xfe" + wide(good+"\r\n", 0), "the file is in UTF-16: save it as UTF-8"},
		{"UTF-16 BE", "\xfe\xff" + wide(good+"\r\n", 1), "the file is in UTF-16: save it as UTF-8"},
		{"UTF-16 LE without mark", wide(good+"\n"+good, 0), "the file is in UTF-16: save it as UTF-8"},
		{"UTF-16 BE without mark", wide(good+"\n"+good, 1), "the file is in UTF-16: save it as UTF-8"},
		{"binary", "\x7fELF\x02\x01\x01\x00\x00\n\x00", "the file is binary: rules are text"},
		{"settings", settings, ErrSettings.Error()},
		{"some settings", "# black\r\n\r\nblack true\r\n", ErrSettings.Error()},
		{"large", "#" + strings.Repeat("x", 1<<20), "the file has more than 1 MiB: it is not a rules file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse(strings.NewReader(tt.text))
			assert.Nil(t, s)
			assert.EqualError(t, err, tt.want)
		})
	}
	t.Run("endless", func(t *testing.T) {
		_, err := Parse(zeros{})
		assert.ErrorContains(t, err, "1 MiB")
	})
	t.Run("a rule among settings", func(t *testing.T) {
		s, err := Parse(strings.NewReader(settings + good))
		assert.ErrorContains(t, err, "line 1: expected the 9 fields")
		assert.Len(t, s.Rules(), 2)
	})
	t.Run("a rule after zeros", func(t *testing.T) {
		s, err := Parse(strings.NewReader("a\x00\n" + good))
		assert.EqualError(t, err, `line 1: expected text, found the control character "\x00"`)
		assert.Len(t, s.Rules(), 2)
	})
	t.Run("no rule", func(t *testing.T) {
		s, err := Parse(strings.NewReader("nonsense"))
		assert.ErrorContains(t, err, "line 1: expected the 9 fields")
		assert.Nil(t, s)
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

const some = `
0,peer,443,1,1,1,1,0,0
1,local,440-450,1,1,1,1,0,0
2,peer,400-500,1,1,1,1,0,0
3,app,firefox,1,1,1,1,0,0
4,app,/usr/bin/deluge,1,1,1,1,0,0
5,app,transmission-daemon,1,1,1,1,0,0
6,app,/opt/a/tool,1,1,1,1,0,0
7,app,/usr/bin/deluge-gtk,1,1,1,1,0,0
8,local,1-65535,1,1,1,1,0,0
9,peer,65535,1,1,1,1,0,0
`

func TestMatch(t *testing.T) {
	s := parse(t, some)
	tests := []struct {
		name string
		conn Conn
		want int // 10: Other
	}{
		{"peer port", Conn{Peer: 443}, 0},
		{"first wins", Conn{Local: 445, Peer: 443}, 0},
		{"local range", Conn{Local: 440, Peer: 80}, 1},
		{"end of local range", Conn{Local: 450, Peer: 444}, 1},
		{"beyond local range", Conn{Local: 451, Peer: 444}, 2},
		{"range around a port", Conn{Peer: 442}, 2},
		{"port before app", Conn{Peer: 400, Comm: "firefox"}, 2},
		{"comm", Conn{Local: 9, Comm: "firefox"}, 3},
		{"base of exe", Conn{Comm: "Socket Thread", Exe: "/usr/lib/firefox"}, 3},
		{"exe without folder", Conn{Exe: "firefox"}, 3},
		{"part of comm", Conn{Comm: "firefox-esr"}, 10},
		{"part of exe", Conn{Exe: "/opt/firefox/updater"}, 10},
		{"comm of 15 bytes is a cut path", Conn{Comm: "/usr/bin/deluge", Exe: "/usr/bin/python3.11"}, 4},
		{"exe is that path", Conn{Comm: "deluge", Exe: "/usr/bin/deluge"}, 4},
		{"base of that path", Conn{Comm: "deluge", Exe: "/opt/deluge"}, 10},
		{"cut comm, exe unknown", Conn{Comm: "transmission-da"}, 5},
		{"cut comm of a script", Conn{Comm: "transmission-da", Exe: "/usr/bin/perl"}, 5},
		{"cut comm, exe known", Conn{Comm: "transmission-da", Exe: "/usr/bin/transmission-daemon"}, 5},
		{"cut comm of another program", Conn{Comm: "transmission-da", Exe: "/usr/bin/transmission-dabbler"}, 10},
		{"shorter comm", Conn{Comm: "transmission-d"}, 10},
		{"path", Conn{Comm: "tool", Exe: "/opt/a/tool"}, 6},
		{"other path of that name", Conn{Comm: "tool", Exe: "/opt/b/tool"}, 10},
		{"long path", Conn{Exe: "/usr/bin/deluge-gtk"}, 7},
		{"any local port", Conn{Local: 1, Peer: 65535}, 8},
		{"last peer port", Conn{Peer: 65535}, 9},
		{"none", Conn{}, 10},
		{"script of an interpreter", Conn{Comm: "deluge", Exe: "/usr/bin/python3.11"}, 4},
		{"script, exe unknown", Conn{Comm: "deluge"}, 4},
		{"script of a longer name", Conn{Comm: "deluge-gt", Exe: "/usr/bin/python3.11"}, 10},
		{"folder", Conn{Exe: "/usr/bin/"}, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.Index(tt.conn); got != tt.want {
				assert.Equal(t, s.Rules()[tt.want], s.Rules()[got])
			}
			r, ok := s.Match(tt.conn)
			assert.Equal(t, tt.want != 10, ok)
			assert.Equal(t, s.Rules()[tt.want], r)
			assert.Equal(t, tt.want, naive(s.Rules(), tt.conn))
		})
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { s.Index(Conn{Comm: "a", Exe: "/b/c"}) }))
}

// TestNames: a name matches itself, and *. with a domain all names below it.
func TestNames(t *testing.T) {
	s := parse(t, "a,name,www.Example.com,1,2,3,4,0,0\nb,name,*.example.com,1,2,3,4,0,0\nc,peer,443,1,2,3,4,0,0\nd,name,*.com,1,2,3,4,0,0\ne,name,xn--mnchen-3ya.example,1,2,3,4,0,0\nf,name,*.a_b.example,1,2,3,4,0,0")
	for name, want := range map[string]string{
		"www.example.com": "a", "mail.example.com": "b", "a.www.example.com": "b", "example.com": "d", "notexample.com": "d", "com": "Other",
		"xn--mnchen-3ya.example": "e", "x.a_b.example": "f", "a_b.example": "Other", "": "Other", "www.example.com.": "Other", ".example.com": "Other",
	} {
		r, _ := s.Match(Conn{Name: name})
		assert.Equal(t, want, r.Label, name)
	}
	r, _ := s.Match(Conn{Name: "example.com", Peer: 443})
	assert.Equal(t, "c", r.Label, "the first wins")
	assert.Zero(t, testing.AllocsPerRun(100, func() { s.Index(Conn{Name: "a.b.c.d.e.example.org"}) }))
}

func TestNoRules(t *testing.T) {
	for name, s := range map[string]*Set{"nil": nil, "zero": {}, "empty": parse(t, "")} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, []Rule{Other}, s.Rules())
			c := Conn{Local: 1, Peer: 2, Comm: "a", Exe: "b"}
			assert.Zero(t, s.Index(c))
			r, ok := s.Match(c)
			assert.Equal(t, Other, r)
			assert.False(t, ok)
		})
	}
}

func TestRulesIsACopy(t *testing.T) {
	s := parse(t, some)
	s.Rules()[0].Label = "changed"
	assert.Equal(t, "0", s.Rules()[0].Label)
}

// naive is the twin of Set.Index: it reads the targets again and asks one
// rule after the other.
func naive(rules []Rule, c Conn) int {
	for i, r := range rules[:len(rules)-1] {
		switch r.Type {
		case Local, Peer:
			port := c.Local
			if r.Type == Peer {
				port = c.Peer
			}
			low, high, ok := strings.Cut(r.Target, "-")
			if !ok {
				high = low
			}
			l, _ := strconv.Atoi(strings.TrimSpace(low))
			h, _ := strconv.Atoi(strings.TrimSpace(high))
			if l <= int(port) && int(port) <= h {
				return i
			}
		case App:
			_, base := filepath.Split(c.Exe)
			switch r.Target {
			case c.Comm, c.Exe, base:
				return i
			}
			if len(c.Comm) == 15 && len(r.Target) > 15 && r.Target[:15] == c.Comm &&
				!strings.HasPrefix(c.Exe, c.Comm) && !strings.HasPrefix(base, c.Comm) {
				return i
			}
			dir, script := filepath.Split(r.Target)
			if dir != "" && script[:min(len(script), 15)] == c.Comm && !strings.HasPrefix(base, c.Comm) {
				return i
			}
		case Name:
			target := strings.ToLower(r.Target)
			if c.Name == target || strings.HasPrefix(target, "*.") && strings.HasSuffix(c.Name, target[1:]) && len(c.Name) >= len(target) {
				return i
			}
		}
	}
	return len(rules) - 1
}

func TestDefault(t *testing.T) {
	s := Default()
	tests := []struct {
		conn Conn
		want string
	}{
		{Conn{Local: 443, Peer: 50000}, "Webserver"},
		{Conn{Local: 50000, Peer: 443, Comm: "firefox"}, "Web Surfing"},
		{Conn{Local: 51820, Peer: 443}, "Web Surfing"},
		{Conn{Local: 22, Peer: 50000}, "SSH In"},
		{Conn{Local: 50000, Peer: 22}, "SSH Out"},
		{Conn{Local: 50000, Peer: 443, Comm: "qbittorrent"}, "Torrents"},
		{Conn{Local: 50000, Peer: 443, Comm: "/usr/bin/deluge", Exe: "/usr/bin/python3.11"}, "Torrents"},
		{Conn{Local: 50000, Peer: 6697}, "IRC"},
		{Conn{Local: 50000, Peer: 8333}, "Bitcoin"},
		{Conn{Local: 50000, Peer: 4711}, "Other"},
	}
	for _, tt := range tests {
		r, _ := s.Match(tt.conn)
		assert.Equal(t, tt.want, r.Label, "%+v", tt.conn)
	}
	for _, r := range s.Rules() {
		assert.Equal(t, r.Label == "Other", r.ShowText, r.Label)
		assert.False(t, r.Beep, r.Label)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(some, uint16(443), uint16(445), "firefox", "/usr/bin/firefox")
	f.Add(DefaultFile, uint16(50000), uint16(6667), "transmission-da", "/usr/bin/python3")
	f.Add("\ufeff\"a\"\"b\" , App , \"/usr/bin/deluge-gtk\",1,2,3,4,yes,0\r\nx", uint16(0), uint16(0), "/usr/bin/deluge", "")
	f.Add("\"a\",local,80,0.2,0.5,1,0.8,1,0\nnonsense\n\"b\",app,\"/usr/bin/deluge\",1.0,0.4,0.7,0.8,0,0\nc,peer,9,1,0,0,1,0,1", uint16(80), uint16(9), "deluge", "/usr/bin/python3")
	f.Add("caf\xe9,local,1,1,1,1,1,0,0\na,local,1,1,1,1,1,0,0\nb,local,0,0.5,1,1,1,0,0", uint16(1), uint16(2), "\x00", "")
	f.Add("a,local,1,1e-1,+.5,5E-1,-0,0,0,,\nb,peer,2,0x1p1,1_0,Inf,1,0,0", uint16(1), uint16(2), "", "")
	f.Add("location_x 20\nblack false\n", uint16(1), uint16(2), "", "")
	f.Add("a,local,1-65535,1,2,3,4,0,0\na,peer,9,1,2,3,4,0,0", uint16(65535), uint16(9), "", "/")
	f.Add("a,name,*.Example.com,1,2,3,4,0,0\na,name,example.com,1,2,3,4,0,0\na,app,x,1,2,3,4,0,0", uint16(1), uint16(2), "www.example.com", "example.com")
	f.Fuzz(func(t *testing.T, text string, local, peer uint16, comm, exe string) {
		s, err := Parse(strings.NewReader(text))
		var bad *SyntaxErrors
		if errors.As(err, &bad) {
			require.NotEmpty(t, bad.First)
			require.LessOrEqual(t, strings.Count(err.Error(), "\n"), 3)
			// Without them the other lines say the same.
			lines := strings.SplitAfter(text, "\n")
			for _, e := range bad.First {
				require.True(t, e.Line >= 1 && e.Line <= len(lines), "line %d", e.Line)
				lines[e.Line-1] = "#\n"
			}
			if bad.More == 0 && s != nil {
				same, err := Parse(strings.NewReader(strings.Join(lines, "")))
				require.NoError(t, err)
				require.Equal(t, s, same)
			}
		} else if err != nil {
			require.Nil(t, s)
		}
		if s == nil {
			return
		}
		all := s.Rules()
		require.Equal(t, Other, all[len(all)-1])

		conns := []Conn{{local, peer, comm, exe, ""}, {local, 0, comm, "", exe}, {0, peer, "", exe, comm}}
		var again strings.Builder
		for _, r := range all[:len(all)-1] {
			conn := Conn{Comm: r.Target}
			switch r.Type {
			case Name:
				name := strings.ToLower(r.Target)
				conn = Conn{Name: strings.Replace(name, "*", "x", 1)}
				conns = append(conns, Conn{Name: name}, Conn{Name: "a.b." + name}, Conn{Name: strings.TrimPrefix(name, "*.")}, Conn{Name: "x" + name})
			case App:
				conns = append(conns, Conn{Exe: r.Target}, Conn{Exe: "/x/" + r.Target}, Conn{Comm: r.Target[:min(len(r.Target), 15)], Exe: exe})
			default:
				low, _, _ := strings.Cut(r.Target, "-")
				port, _ := strconv.Atoi(strings.TrimSpace(low))
				conn = Conn{Local: uint16(port)}
				if r.Type == Peer {
					conn = Conn{Peer: uint16(port)}
				}
				conns = append(conns, Conn{Local: uint16(port), Peer: uint16(port - 1)})
			}
			_, ok := s.Match(conn)
			require.True(t, ok, "a rule matches what it names: %+v", r)
			conns = append(conns, conn)

			quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
			fmt.Fprintf(&again, "%s%s,%s,%s,%d,%d,%d,%d,%t,%t\n", strings.Repeat("\n", r.Line-1-strings.Count(again.String(), "\n")),
				quote(r.Label), [...]string{Local: "local", Peer: "peer", App: "app", Name: "name"}[r.Type], quote(r.Target),
				r.Color.R, r.Color.G, r.Color.B, r.Color.A, r.ShowText, r.Beep)
		}
		again.WriteString("\n\"scale\",app,x,255,255,255,255,0,0\n")
		for _, c := range conns {
			require.Equal(t, naive(all, c), s.Index(c), "%+v", c)
		}
		same, err := Parse(strings.NewReader(again.String()))
		require.NoError(t, err)
		require.Equal(t, all[:len(all)-1], same.Rules()[:len(all)-1])
	})
}

func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{30, 3000} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "a,%s,%d,1,2,3,4,0,0\n", []string{"local", "peer", "app"}[i%3], i+1)
		}
		s := parse(b, text.String())
		all := s.Rules()
		conn := Conn{Local: 50000, Peer: 60000, Comm: "firefox", Exe: "/usr/lib/firefox/firefox"}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Index(conn)
			}
		})
		b.Run(fmt.Sprintf("rules=%d/naive", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				naive(all, conn)
			}
		})
	}
}

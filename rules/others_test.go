package rules

import (
	"fmt"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLikePerl: numbers and commas at the end say what they say to connmapperl, which splits
// a line at its commas and has Perl read the numbers.
func TestLikePerl(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	for _, tail := range []string{"", ",", ",,,", ", "} {
		for _, n := range []string{".5", "+0.5", "1e-1", "5E-1", "0.25", "1.", "1", "+1", "0", "-0", "00.5", "1e0", "1e+0", "0e5"} {
			line := "a,peer,80," + n + ",0.5,0,1,1,0" + tail
			out, err := exec.Command(perl, "-e", `my @f = split /,/, $ARGV[0]; print join " ", scalar @f, map { int(255 * $_ + 0.5) } @f[3 .. 6]`, line).Output()
			require.NoError(t, err)
			c := parse(t, line).Rules()[0].Color
			assert.Regexp(t, fmt.Sprintf(`^(9|10) %d %d %d %d$`, c.R, c.G, c.B, c.A), string(out), line)
		}
	}
}

// TestConnmapperl: the rules file that connmapperl's documentation prints means the same
// here.
func TestConnmapperl(t *testing.T) {
	doc, err := os.ReadFile("../../shared/seed/connmapperl.txt")
	if err != nil {
		t.Skip("connmapperl's documentation is not here: ", err)
	}
	_, file, ok := strings.Cut(string(doc), "\nFormat\n\n")
	require.True(t, ok)
	file, _, ok = strings.Cut(file, "\nRule matching\n")
	require.True(t, ok)
	s := parse(t, file)
	all := s.Rules()
	require.Len(t, all, 21+1)

	rgb := func(r, g, b uint8) color.NRGBA { return color.NRGBA{r, g, b, 204} }
	colors := map[string]color.NRGBA{
		"Webserver": rgb(51, 128, 255), "Web Surfing": rgb(173, 217, 255), "IRC": rgb(255, 255, 51), "SSH Out": rgb(153, 51, 204),
		"SSH In": rgb(179, 51, 153), "IMAP/S": rgb(26, 230, 51), "smtpd": rgb(77, 153, 77), "Torrents": rgb(255, 102, 179),
		"Shadowsocks": rgb(128, 128, 128), "connmap": rgb(128, 128, 26), "Bitcoin": rgb(230, 128, 51),
	}
	labels := map[string]bool{}
	for _, r := range all[:21] {
		assert.Equal(t, colors[r.Label], r.Color, r.Label)
		assert.Equal(t, r.Label == "Webserver" || r.Label == "Other", r.ShowText, r.Label)
		assert.False(t, r.Beep, r.Label)
		labels[r.Label] = true
	}
	assert.Len(t, labels, len(colors))

	const python = "/usr/bin/python3.11"
	for _, tt := range []struct {
		conn Conn
		want string
	}{
		{Conn{Local: 80, Peer: 50000}, "Webserver"},
		{Conn{Local: 443, Peer: 443}, "Webserver"}, // the first wins
		{Conn{Local: 50000, Peer: 80}, "Web Surfing"},
		{Conn{Local: 50000, Peer: 443, Comm: "/usr/bin/deluge"}, "Web Surfing"},
		{Conn{Local: 50000, Peer: 6659}, "Other"},
		{Conn{Local: 50000, Peer: 6660}, "IRC"},
		{Conn{Local: 50000, Peer: 6697}, "IRC"},
		{Conn{Local: 50000, Peer: 6698}, "Other"},
		{Conn{Local: 6660, Peer: 50000}, "Other"},
		{Conn{Local: 50000, Peer: 5555}, "IRC"},
		{Conn{Local: 50000, Peer: 22}, "SSH Out"},
		{Conn{Local: 22, Peer: 50000}, "SSH In"},
		{Conn{Local: 22, Peer: 22}, "SSH Out"},
		{Conn{Local: 50000, Peer: 993}, "IMAP/S"},
		{Conn{Local: 143, Peer: 50000}, "IMAP/S"},
		{Conn{Local: 50000, Peer: 143}, "Other"},
		{Conn{Local: 587, Peer: 50000}, "smtpd"},
		{Conn{Local: 12000, Peer: 50000}, "Torrents"},
		{Conn{Local: 50000, Peer: 12000}, "Torrents"},
		{Conn{Local: 50000, Peer: 50001, Comm: "/usr/bin/deluge", Exe: python}, "Torrents"},
		{Conn{Local: 50000, Peer: 50001, Comm: "deluge", Exe: python}, "Torrents"},
		{Conn{Local: 50000, Peer: 50001, Comm: "deluge", Exe: "/usr/bin/deluge"}, "Torrents"},
		{Conn{Local: 50000, Peer: 50001, Comm: "deluge"}, "Torrents"},
		{Conn{Local: 50000, Peer: 50001, Comm: "deluged", Exe: "/usr/bin/deluged"}, "Other"},
		{Conn{Local: 50000, Peer: 31415}, "Shadowsocks"},
		{Conn{Local: 31416, Peer: 50000}, "Shadowsocks"},
		{Conn{Local: 6789, Peer: 50000}, "connmap"},
		{Conn{Local: 50000, Peer: 6789}, "connmap"},
		{Conn{Local: 50000, Peer: 8333, Comm: "bitcoin-qt", Exe: "/usr/bin/bitcoin-qt"}, "Bitcoin"},
		{Conn{Local: 50000, Peer: 8333, Comm: "b-net", Exe: "/opt/bitcoin/bin/bitcoin-qt"}, "Bitcoin"}, // a thread
		{Conn{Local: 50000, Peer: 8333}, "Other"},
	} {
		r, ok := s.Match(tt.conn)
		assert.Equal(t, tt.want, r.Label, "%+v", tt.conn)
		assert.Equal(t, tt.want != "Other", ok)
	}

	// Each line may be bad, and costs no other.
	lines := strings.SplitAfter(file, "\n")
	for _, r := range all[:21] {
		for _, nonsense := range []string{"nonsense\n", "\"caf\xe9\",peer,443,1,2,3,255,0,0\n", "x,local,0,255,255,255,255,0,0\n", "\x00\x01\x02\n"} {
			worse := slices.Clone(lines)
			worse[r.Line-1] = nonsense
			s, err := Parse(strings.NewReader(strings.Join(worse, "")))
			var bad *SyntaxErrors
			require.ErrorAs(t, err, &bad)
			require.Len(t, bad.First, 1)
			assert.Equal(t, r.Line, bad.First[0].Line)
			assert.Equal(t, slices.DeleteFunc(slices.Clone(all), func(a Rule) bool { return a.Line == r.Line }), s.Rules())
		}
	}
}

// TestReadme: the rules that the project's README shows are rules.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	text := ""
	for line := range strings.Lines(string(readme)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, `"`) && strings.Count(line, ",") == 8 {
			text += strings.Replace(line, `"Label"`, `#"Label"`, 1) + "\n"
		}
	}
	r := parse(t, text).Rules()
	require.Len(t, r, 2)
	assert.Equal(t, Rule{"SSH Out", Peer, "22", color.NRGBA{153, 51, 204, 204}, false, false, r[0].Line}, r[0])
}

// TestInputs: files with mistakes that people make.
func TestInputs(t *testing.T) {
	const dir = "../../shared/inputs"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the inputs are not here: ", err)
	}
	for name, want := range map[string]struct {
		labels []string
		err    string
	}{
		"rules-good.rc":          {[]string{"MYRULE", "Other"}, ""},
		"rules-onebad.rc":        {[]string{"MYRULE", "Other"}, "line 2: expected the 9 fields"},
		"rules-empty.rc":         {[]string{"Other"}, ""},
		"rules-bom.rc":           {[]string{"Web", "Mail", "Other"}, ""},
		"rules-latin1.rc":        {nil, `line 1: expected text in UTF-8, found "\"Caf\xe9\"`},
		"rules-utf16.rc":         {nil, "the file is in UTF-16"},
		"connmaprc-of-C-connmap": {nil, "settings of the C program connmap"},
		"city_de.mmdb":           {nil, "the file is binary"},
		"window-big.json":        {nil, "line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, name))
			require.NoError(t, err)
			defer f.Close()
			s, err := Parse(f)
			if want.err == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, want.err)
			}
			if want.labels == nil {
				assert.Nil(t, s)
				return
			}
			var labels []string
			for _, r := range s.Rules() {
				labels = append(labels, r.Label)
			}
			assert.Equal(t, want.labels, labels)
		})
	}
}

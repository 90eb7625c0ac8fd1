package feed

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/connmapgo/connmap/conntrack/feed/frame"
	"github.com/connmapgo/connmap/internal/terminal"
)

// clean makes a text from another host safe to show and to log: valid UTF-8 of at most
// frame.MaxText bytes without control, formatting, bidirectional and invisible characters.
func clean(s string) string { return terminal.Clean(s, frame.MaxText) }

// cleanName makes a name from another host safe to show. It has no blanks but single spaces
// between words.
func cleanName(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// names are the skeletons of the names that agents have.
type names map[string]bool

func (n names) add(name string) {
	for _, skeleton := range skeletons(name) {
		n[skeleton] = true
	}
}

func (n names) has(name string) bool {
	for _, skeleton := range skeletons(name) {
		if n[skeleton] {
			return true
		}
	}
	return false
}

// lookAlike reports whether two names look the same.
func lookAlike(a, b string) bool {
	n := names{}
	n.add(a)
	return n.has(b)
}

// skeletons returns what names that look the same have in common: the letters in lower case, and
// the Latin letters that they look like.
func skeletons(name string) [2]string {
	name = cleanName(name)
	return [2]string{strings.ToLower(name), strings.Map(skeletonRune, name)}
}

// skeletonRune returns the lower case of the Latin letter or digit that a character looks like,
// or else of the character itself. It drops marks on letters, inside the character or behind it.
func skeletonRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		return unicode.ToLower(r)
	case unicode.In(r, unicode.Mn, unicode.Me):
		return -1
	case r >= 0xff01 && r <= 0xff5e: // full-width
		r -= 0xff01 - '!'
	case r >= 0x1d400 && r <= 0x1d6a3: // mathematical, in alphabets of 52 letters
		if r = (r - 0x1d400) % 52; r < 26 {
			return 'a' + r
		}
		return 'a' + r - 26
	case r >= 0x24b6 && r <= 0x24e9: // in circles
		return 'a' + (r-0x24b6)%26
	case r >= 0x1f130 && r <= 0x1f149, r >= 0x1f150 && r <= 0x1f169, r >= 0x1f170 && r <= 0x1f189: // in squares and discs
		return 'a' + (r-0x1f130)%32
	case r >= 0x1d7ce && r <= 0x1d7ff:
		return '0' + (r-0x1d7ce)%10
	}
	if l, ok := lookalikes[r]; ok {
		return l
	}
	r = unicode.ToLower(r)
	if l, ok := lookalikes[r]; ok {
		return l
	}
	return r
}

// lookalikes maps letters of Lisu, Greek, Cyrillic and other alphabets, and Latin ones with marks,
// to the Latin letters that they look like. A capital letter is there if it looks like another
// letter than its small one.
var lookalikes = func() map[rune]rune {
	m := make(map[rune]rune)
	for group := range strings.FieldsSeq(`
		aꓮ bꓐ cꓚ dꓓ eꓰ fꓝ gꓖ hꓧ iꓲ jꓙ kꓗ lꓡ mꓟ nꓠ oꓳ pꓑ rꓣ sꓢ tꓔ uꓴ vꓦ wꓪ xꓫ yꓬ zꓜ
		aàáâãäåāăąǎạảаΑαɑ bВΒЬьɓ cçćĉċčсϲ dďđḍԁ eèéêëēĕėęěẹеёΕєε fƒ gĝğġģɡԍ hĥħһНΗ iìíîïĩīĭįıіїΙι
		jĵј kķкΚκ lĺļľŀłӏӀ mМмΜ nñńņňΝηո oòóôõöøōŏőơоΟοσօ pрΡρ qԛ rŕŗřг sśŝşšșѕ tţťŧțтΤτ
		uùúûüũūŭůűųưυս vνѵ wŵԝω xхΧχ yýÿŷỳуΥγү zźżžΖ 3Зз`) {
		first, others := group[:1], group[1:]
		for _, r := range others {
			m[r] = rune(first[0])
		}
	}
	return m
}()

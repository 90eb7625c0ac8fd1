package feed

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

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

// skeletons returns what names that look the same have in common: the Latin letters that they
// look like, in lower case and without blanks. A capital may look like another letter than its
// small one, and a capital I like an l.
func skeletons(name string) []string {
	name = cleanName(name)
	small, capital := latin(strings.ToLower(name)), latin(name)
	all := []string{skeleton(small)}
	if !strings.EqualFold(capital, small) {
		all = append(all, skeleton(capital))
	}
	if strings.Contains(capital, "I") {
		all = append(all, skeleton(strings.ReplaceAll(capital, "I", "l")))
	}
	return all
}

// skeleton keeps no more than a name may have: some characters are decomposed into many.
func skeleton(latin string) string {
	s := sameLooks.Replace(strings.ToLower(latin))
	return strings.Clone(s[:min(len(s), maxSkeleton)])
}

const maxSkeleton = 256 // bytes

// sameLooks replaces what is hard to tell apart in many typefaces.
var sameLooks = strings.NewReplacer("0", "o", "1", "l", "|", "l", "rn", "m", "vv", "w")

// latin replaces the characters of a name by the Latin letters and digits that they look like. It
// drops blanks and marks on letters.
func latin(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return strings.ReplaceAll(name, " ", "")
	}
	// Some characters look like others than those that Unicode decomposes them into.
	return strings.Map(latinRune, norm.NFKD.String(strings.Map(latinRune, name)))
}

func latinRune(r rune) rune {
	switch {
	case unicode.IsSpace(r), unicode.In(r, unicode.Mn, unicode.Me):
		return -1
	case r < utf8.RuneSelf:
		return r
	case r >= 0x1f150 && r <= 0x1f169, r >= 0x1f170 && r <= 0x1f189: // in discs and black squares
		return 'a' + (r-0x1f150)%32
	case r >= 0x1f1e6 && r <= 0x1f1ff: // of flags
		return 'a' + r - 0x1f1e6
	}
	if l, ok := lookalikes[r]; ok {
		return l
	}
	if l, ok := lookalikes[unicode.ToLower(r)]; ok {
		return l
	}
	return r
}

// lookalikes maps letters to the Latin letters that they look like, unless Unicode decomposes
// them into these: small capitals, Latin letters with strokes, hooks and tails, and letters of
// Greek, Cyrillic, Armenian, Cherokee, Coptic, Lisu and other scripts. A capital is there if it
// looks like another letter than its small one.
var lookalikes = func() map[rune]rune {
	m := make(map[rune]rune)
	for group := range strings.FieldsSeq(`
		aᴀᶏⱥɑаΑαᎪꭺⲁꓮᗅ bʙᴃƀƃɓᵬᶀꞗƅВЬьΒᏼꓐᗷ cᴄƈȼɕꞓꞔсҫςϲϹⲥᏟꮯꓚᑕ dᴅđƌȡɖɗᵭᶁᶑԁᎠꭰꓓᗞᗪ
		eᴇɇɛᶒᶓⱸꬳꬴ℮еҽєΕεᎬꭼⲉꓰᥱ fꜰƒᵮᶂꞙғϝꓝ gɢʛǥɠɡᵹᶃꞡꬶԍցᏀᏻꮐꓖ hʜħɦⱨꞕНһћђΗհᎻꮋⲏꓧᕼ
		iıɨɪɩᶖіιꙇᎥꭵⲓ IΙІӀƖꓲǀ∣❘⏽ⵏ│︱וןا jᴊȷɉɟʄʝјϳյᎫꭻꓙᒍ kᴋƙᶄⱪꝁꝃꝅꞣкқҝҟҡΚκᏦꮶⲕꓗ
		lʟᴌłƚȴɫɬɭᶅⱡꝉꞎꬷꬸꬹӏլᏞꮮꓡᒪ mᴍɱᵯᶆꬺмΜᎷꮇⲙꓟᗰ nɴƞȵɲɳᵰᶇꞑꞥꬻΝηոⲛꓠ
		oᴏøɵⱺꝋꝍоөѳΟοσօⲟꓳⵔ०০੦૦௦౦೦൦๐໐ဝ០هᱛ𐐬 pᴘƥᵱᵽᶈꝑꝓꝕрΡρᏢꮲⲣꓑᑭ qɋʠꝗꝙԛզ
		rʀɍɼɽɾᵲᵳᶉꞃꞧꭆꭋꭌгᎡꭱꓣᖇ sꜱȿʂᵴᶊꞅꞩѕՏᏚꮪꓢ tᴛŧƫƭȶʈᵵⱦтΤτᎢꭲⲧꓔ uᴜʉᶙꞹꭎꭒυսՍꓴᑌ∪
		vᴠʋᶌⱱⱴꝟνѵᏙꮩꓦᐯ∨ wᴡⱳԝωѡᏔᏇꮃꓪ xᶍꭖхҳΧχⲭꓫᕁⵝ yʏƴɏỿуүұΥγყᎩᎽⲩꓬ zᴢƶȥɀʐʑᵶᶎⱬΖᏃꮓⲍꓜ 3Ззɜʒ`) {
		first, others := group[:1], group[1:]
		for _, r := range others {
			m[r] = rune(first[0])
		}
	}
	return m
}()

package gui

import (
	"image"
	"slices"
	"time"
	"unicode"

	"github.com/hajimehoshi/ebiten/v2"
	"github.com/hajimehoshi/ebiten/v2/inpututil"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
)

const (
	repeatAfter = 400 * time.Millisecond // that a key is held
	repeatEvery = 40 * time.Millisecond
)

// specialKeys are the keys that type no character.
var specialKeys = map[ebiten.Key]ui.Key{
	ebiten.KeyEscape: ui.KeyEscape, ebiten.KeyEnter: ui.KeyEnter, ebiten.KeyNumpadEnter: ui.KeyEnter,
	ebiten.KeyBackspace: ui.KeyBackspace, ebiten.KeyDelete: ui.KeyDelete, ebiten.KeyTab: ui.KeyTab,
	ebiten.KeyArrowLeft: ui.KeyLeft, ebiten.KeyArrowRight: ui.KeyRight, ebiten.KeyArrowUp: ui.KeyUp, ebiten.KeyArrowDown: ui.KeyDown,
	ebiten.KeyHome: ui.KeyHome, ebiten.KeyEnd: ui.KeyEnd, ebiten.KeyPageUp: ui.KeyPageUp, ebiten.KeyPageDown: ui.KeyPageDown,
}

// repeats is the special key that is held, and when it counts as pressed again. It is not
// counted in frames, since these are made on events only.
type repeats struct {
	key  ebiten.Key
	next time.Time // zero: none is held
}

func (r *repeats) holding() bool { return !r.next.IsZero() }

func (g *game) input(now time.Time) mapview.Input {
	x, y := ebiten.CursorPosition()
	in := mapview.Input{
		Size:    g.picture,
		Scale:   g.scale,
		Cursor:  image.Pt(x, y),
		Press:   inpututil.IsMouseButtonJustPressed(ebiten.MouseButtonLeft),
		Release: inpututil.IsMouseButtonJustReleased(ebiten.MouseButtonLeft),
		Held:    ebiten.IsMouseButtonPressed(ebiten.MouseButtonLeft),
		Right:   inpututil.IsMouseButtonJustPressed(ebiten.MouseButtonRight),
		Hidden:  ebiten.IsWindowMinimized(),
		Shift:   ebiten.IsKeyPressed(ebiten.KeyShift),
	}
	in.Inside = in.Cursor.In(image.Rectangle{Max: in.Size})
	_, in.Wheel = ebiten.Wheel()
	in.MiddleHeld = ebiten.IsMouseButtonPressed(ebiten.MouseButtonMiddle)
	for key, by := range map[ebiten.Key]image.Point{
		ebiten.KeyArrowRight: {X: 1}, ebiten.KeyArrowLeft: {X: -1}, ebiten.KeyArrowDown: {Y: 1}, ebiten.KeyArrowUp: {Y: -1},
	} {
		if ebiten.IsKeyPressed(key) {
			in.Arrows = in.Arrows.Add(by)
		}
	}
	in.Keys = g.repeats.keys(now, in.Shift)
	return in
}

// keys returns the keys and characters that were typed since the last frame.
func (r *repeats) keys(now time.Time, shift bool) (typed []ui.Key) {
	var held ui.Key
	if shift {
		held |= ui.Shift
	}
	chars := ebiten.AppendInputChars(nil)
	if len(chars) > 0 {
		held = 0 // Shift was for one of them
	}
	pressed := inpututil.AppendJustPressedKeys(nil)
	positions := positionsOf(pressed, shift)
	// AltGr counts as Ctrl and Alt on some systems. In a slow frame Ctrl counts as held if it
	// was held at any time.
	ctrl := ebiten.IsKeyPressed(ebiten.KeyControl) && !ebiten.IsKeyPressed(ebiten.KeyAlt)
	if ctrl {
		held |= ui.Ctrl
	}
	var text []ui.Key
	for _, c := range chars {
		k := ui.Key(c).At(positionOf(c, positions))
		if len(pressed) == 0 {
			k |= ui.Repeat
		}
		text = append(text, k)
	}
	entered := false
	for _, k := range pressed {
		if s, ok := specialKeys[k]; ok {
			if s == ui.KeyEnter && (!ctrl || len(chars) > 0) {
				entered = true
			} else if s == ui.KeyEscape {
				typed = append(typed, s|held&^ui.Ctrl) // which may have been released before, in a slow frame
			} else {
				typed = append(typed, s|held)
			}
			*r = repeats{k, now.Add(repeatAfter)}
		} else if ctrl {
			if c := withCtrl(k, positions, chars); c != 0 {
				typed = append(typed, ui.Key(c)|held)
			}
		}
	}
	switch {
	case !r.holding():
	case !ebiten.IsKeyPressed(r.key):
		*r = repeats{}
	case !now.Before(r.next):
		typed = append(typed, specialKeys[r.key]|held|ui.Repeat)
		r.next = now.Add(repeatEvery)
	}
	// The order of characters and other keys within a frame is unknown. While Ctrl is held
	// no characters come: if it is held at the end of a frame, they came before it.
	if ctrl && !released(ebiten.KeyControlLeft, ebiten.KeyControlRight) {
		typed = append(text, typed...)
	} else {
		typed = append(typed, text...)
	}
	// Enter comes last: otherwise the last letter of a text typed fast would become a command.
	if entered {
		typed = append(typed, ui.KeyEnter|held)
	}
	return typed
}

func released(keys ...ebiten.Key) bool {
	return slices.ContainsFunc(keys, inpututil.IsKeyJustReleased)
}

// withCtrl returns what a key means with Ctrl. It is zero if the key typed one of the frame's
// characters, since Ctrl was not held then.
func withCtrl(k ebiten.Key, positions map[ebiten.Key]rune, chars []rune) rune {
	name := []rune(ebiten.KeyName(k))
	shifted := usKeyboard[k][1]
	if slices.ContainsFunc(chars, func(c rune) bool {
		return c == shifted || len(name) == 1 && unicode.ToLower(c) == unicode.ToLower(name[0])
	}) {
		return 0
	}
	if at := positions[k]; at != 0 {
		return at
	}
	if len(name) == 1 && name[0] < unicode.MaxASCII {
		return name[0]
	}
	return 0
}

// usKeyboard is what a US keyboard types, without and with Shift.
var usKeyboard = func() map[ebiten.Key][2]rune {
	m := map[ebiten.Key][2]rune{
		ebiten.KeyBackquote: {'`', '~'}, ebiten.KeyMinus: {'-', '_'}, ebiten.KeyEqual: {'=', '+'},
		ebiten.KeyBracketLeft: {'[', '{'}, ebiten.KeyBracketRight: {']', '}'}, ebiten.KeyBackslash: {'\\', '|'},
		ebiten.KeySemicolon: {';', ':'}, ebiten.KeyQuote: {'\'', '"'},
		ebiten.KeyComma: {',', '<'}, ebiten.KeyPeriod: {'.', '>'}, ebiten.KeySlash: {'/', '?'},
	}
	for i, c := range ")!@#$%^&*(" {
		m[ebiten.KeyDigit0+ebiten.Key(i)] = [2]rune{'0' + rune(i), c}
	}
	for i := range rune(26) {
		m[ebiten.KeyA+ebiten.Key(i)] = [2]rune{'a' + i, 'A' + i}
	}
	return m
}()

// positionsOf returns what a US keyboard types with keys, if the layout has no ASCII
// letters. Otherwise nobody could press q on a Cyrillic or Hebrew keyboard.
func positionsOf(keys []ebiten.Key, shift bool) map[ebiten.Key]rune {
	positions := map[ebiten.Key]rune{}
	for _, k := range keys {
		if c, ok := usKeyboard[k]; ok && shift {
			positions[k] = c[1]
		} else if ok {
			positions[k] = c[0]
		}
	}
	if len(positions) == 0 {
		return nil
	}
	named := false
	for k := ebiten.KeyA; k <= ebiten.KeyZ; k++ {
		name := ebiten.KeyName(k)
		if len(name) == 1 && unicode.IsLetter(rune(name[0])) {
			return nil
		}
		named = named || name != ""
	}
	if !named {
		return nil // nothing is known of the layout
	}
	return positions
}

// positionOf returns the position of the key that typed c, zero if that is not certain.
func positionOf(c rune, positions map[ebiten.Key]rune) rune {
	for k, at := range positions {
		if len(positions) == 1 || ebiten.KeyName(k) == string(unicode.ToLower(c)) {
			return at
		}
	}
	return 0
}

package ui

import "image/color"

// A Theme is the colours of widgets.
type Theme struct {
	Text, Dim, Accent      color.NRGBA
	OnAccent               color.NRGBA // text over accent
	Keyword, Literal       color.NRGBA // of SQL, besides text and dim
	Panel, Edge, Alternate color.NRGBA
	Chosen                 color.NRGBA // a row
	Wrong                  color.NRGBA
	Rim                    color.NRGBA // around discs
}

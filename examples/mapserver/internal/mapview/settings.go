package mapview

// Settings are what the user has switched, to be remembered. They are values: what
// their slices and maps lead to is not changed.
type Settings struct {
	Light      bool    // the light theme
	Apart      bool    // colours that colour-blind eyes tell apart, in place of those of the rules
	Labels     bool    // of all connections
	RuleLabels bool    // of all places
	Cycle      bool    // through the colours of stacked places
	Local      bool    // peers in the local network
	History    bool    // places of the stored history
	Lines      bool    // from home to all places
	Beep       bool    // for connections that match no rule
	TextSize   float64 // of everything but the map, over the usual; zero means 1
	// Labelled says of rules' labels whether they stand beside their places, where the
	// user has switched one of them.
	Labelled map[string]bool `json:",omitempty"`
	// Dismissed is the limitation of capture that the user has read and does not want to
	// be told again.
	Dismissed string `json:",omitempty"`
	// Queries in SQL that were asked before, the newest last.
	Queries []string `json:",omitempty"`
	// Panels that the user has resized: left and upper edge, width and height by
	// their names.
	Panels map[string][4]float64 `json:",omitempty"`
}

// restore takes in settings that were remembered, which may be anything.
func (v *View) restore() {
	if !(v.TextSize >= minText && v.TextSize <= maxText) {
		v.TextSize = 0
	}
	if n := len(v.Queries); n > maxQueries {
		v.Queries = v.Queries[n-maxQueries:]
	}
}

const (
	minText = 0.6
	maxText = 3
)

// resizeText makes everything but the map larger or smaller; 0 as usual.
func (v *View) resizeText(by float64) {
	size := v.TextSize
	if size == 0 {
		size = 1
	}
	v.TextSize = min(max(size*by, minText), maxText)
	if by == 0 {
		v.TextSize = 1
	}
	v.in.Scale *= v.TextSize / size
	v.size = v.pictureSize()
}

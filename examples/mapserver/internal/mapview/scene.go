package mapview

import (
	"image"

	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/examples/mapserver/internal/worldmap"
)

// A Scene is a display list: the map, then the items in order, each over
// those before it. It is valid until the next call of View.Update.
type Scene struct {
	Size    image.Point   // of the picture in pixels
	View    worldmap.View // the map under everything
	Palette worldmap.Palette
	Items   []ui.Item
	Rev     uint64 // grows whenever anything above changes
}

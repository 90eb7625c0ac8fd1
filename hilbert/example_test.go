package hilbert_test

import (
	"fmt"
	"image"
	"image/color"
	"net/netip"

	"github.com/connmapgo/connmap/hilbert"
)

func Example() {
	const order = hilbert.Order(12)        // a pixel is a /24
	at := order.Point(0xc0000201)          // 192.0.2.1
	fmt.Println(at, order.Prefix(at))      // the pixel and what lies in it
	fmt.Printf("%x\n", order.Distance(at)) // the first address there
	// Output:
	// (4094,2046) 192.0.2.0/24
	// c0000200
}

// A picture of the private networks, 256 pixels a side.
func ExampleOrder_Rect() {
	const order = hilbert.Order(8)
	picture := image.NewGray(image.Rect(0, 0, order.Side(), order.Side()))
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
		r := order.Rect(netip.MustParsePrefix(s))
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				picture.Set(x, y, color.White)
			}
		}
		fmt.Println(s, r)
	}
	// Output:
	// 10.0.0.0/8 (48,48)-(64,64)
	// 172.16.0.0/12 (248,220)-(252,224)
	// 192.168.0.0/16 (241,113)-(242,114)
}

package sound_test

import (
	"fmt"

	"github.com/connmapgo/connmap/examples/mapserver/internal/sound"
)

func Example() {
	p, err := sound.New("none", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	p.Play()

	_, err = sound.New(`paplay "ding.wav`, nil)
	fmt.Println(err)
	// Output: sound: a quote " is not closed in paplay "ding.wav
}

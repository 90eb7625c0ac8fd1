package sound

import (
	"encoding/binary"
	"math"
)

// tone returns 150 ms of an A and its octave, struck softly and dying away.
func tone() []byte {
	const (
		frames = rate * 150 / 1000
		attack = rate * 8 / 1000
		volume = 0.3
	)
	pcm := make([]byte, 0, frames*frameSize)
	for i := range frames {
		left := 1 - float64(i)/(frames-1)
		envelope := min(1, float64(i)/attack) * left * left
		phase := 2 * math.Pi * 880 * float64(i) / rate
		v := int16(math.MaxInt16 * volume * envelope * (0.8*math.Sin(phase) + 0.2*math.Sin(2*phase)))
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(v))
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(v))
	}
	return pcm
}

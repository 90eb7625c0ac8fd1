package sound

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wav returns a WAV file with the samples in data.
func wav(rate, channels, bits int, data []byte) []byte {
	return riff(chunk("fmt ", pcmFormat(rate, channels, bits)), chunk("data", data))
}

func riff(chunks ...[]byte) []byte {
	return chunk("RIFF", append([]byte("WAVE"), bytes.Join(chunks, nil)...))
}

func chunk(id string, body []byte) []byte {
	b := append(binary.LittleEndian.AppendUint32([]byte(id), uint32(len(body))), body...)
	if len(body)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

func pcmFormat(rate, channels, bits int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, 1)
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*channels*bits/8))
	b = le.AppendUint16(b, uint16(channels*bits/8))
	return le.AppendUint16(b, uint16(bits))
}

// with returns b with a byte changed.
func with(b []byte, i int, v byte) []byte {
	b = bytes.Clone(b)
	b[i] = v
	return b
}

func extensible(kind byte) []byte {
	b := append(with(with(pcmFormat(48000, 1, 16), 0, 0xFE), 1, 0xFF), 22, 0, 16, 0, 4, 0, 0, 0, kind, 0)
	return append(b, "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xAA\x00\x38\x9B\x71"...)
}

// slow is decode for those who know the format, in floating point.
func slow(from, channels, bits int, data []byte) []byte {
	var frames [][2]float64
	for i := 0; i+channels*bits/8 <= len(data); i += channels * bits / 8 {
		var f [2]float64
		for c := range f {
			switch {
			case bits == 8:
				f[c] = 256 * (float64(data[i+c%channels]) - 128)
			default:
				f[c] = float64(int16(binary.LittleEndian.Uint16(data[i+2*(c%channels):])))
			}
		}
		frames = append(frames, f)
	}
	var pcm []byte
	for i := range len(frames) * rate / from {
		whole, part := math.Modf(float64(i) * float64(from) / rate)
		a, b := frames[int(whole)], frames[min(int(whole)+1, len(frames)-1)]
		for c := range 2 {
			pcm = binary.LittleEndian.AppendUint16(pcm, uint16(int16(a[c]+(b[c]-a[c])*part)))
		}
	}
	return pcm
}

func TestWAV(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, from := range []int{8000, 22050, 44100, 48000, 96000} {
		for _, channels := range []int{1, 2} {
			for _, bits := range []int{8, 16} {
				t.Run(fmt.Sprintf("%d/%d/%d", from, channels, bits), func(t *testing.T) {
					data := make([]byte, from/10*channels*bits/8)
					for i := range data {
						data[i] = byte(random.Uint32())
					}
					got, err := decode(wav(from, channels, bits, data))
					require.NoError(t, err)
					want := slow(from, channels, bits, data)
					require.Len(t, got, rate/10*frameSize)
					require.Len(t, want, len(got))
					for i := 0; i < len(got); i += 2 {
						require.InDelta(t, sample(want, i), sample(got, i), 1, "sample %d", i/2)
					}
				})
			}
		}
	}
}

// TestWAVPitch decodes a sine and looks whether it still is one.
func TestWAVPitch(t *testing.T) {
	for _, from := range []int{22050, 44100, 48000} {
		var data []byte
		for i := range from {
			v := int16(20000 * math.Sin(2*math.Pi*440*float64(i)/float64(from)))
			data = binary.LittleEndian.AppendUint16(data, uint16(v))
		}
		pcm, err := decode(wav(from, 1, 16, data))
		require.NoError(t, err)
		require.Len(t, pcm, rate*frameSize)
		for i := range rate - 5 {
			want := 20000 * math.Sin(2*math.Pi*440*float64(i)/rate)
			require.InDelta(t, want, sample(pcm, i*frameSize), 50, "rate %d, frame %d", from, i)
		}
	}
}

func TestWAVChunks(t *testing.T) {
	one := []byte{0x34, 0x12} // a sample
	want := []byte{0x34, 0x12, 0x34, 0x12}
	good := pcmFormat(48000, 1, 16)
	for _, tt := range []struct {
		name string
		file []byte
		want string // of the error
	}{
		{"plain", riff(chunk("fmt ", good), chunk("data", one)), ""},
		{"other chunks, of odd size", riff(chunk("LIST", []byte("abc")), chunk("fmt ", append(good, 0, 0)), chunk("fact", []byte{1}), chunk("data", one), chunk("id3 ", nil)), ""},
		{"extensible", riff(chunk("fmt ", extensible(1)), chunk("data", one)), ""},
		{"written into a pipe", append(riff(chunk("fmt ", good)), "data\xff\xff\xff\xff\x34\x12"...), ""},
		{"half a frame at the end", riff(chunk("fmt ", good), chunk("data", append(one, 1))), ""},

		{"empty", nil, "this is not a WAV file; " + convert},
		{"big endian", append([]byte("RIFX"), riff()[4:]...), "this is not a WAV file; " + convert},
		{"no chunks", riff(), "the file holds no sound"},
		{"cut in a chunk's head", append(riff(), "fmt"...), "the file holds no sound"},
		{"no data", riff(chunk("fmt ", good)), "the file holds no sound"},
		{"empty data", riff(chunk("fmt ", good), chunk("data", nil)), "the file holds no sound"},
		{"half a frame", riff(chunk("fmt ", good), chunk("data", one[:1])), "the file holds no sound"},
		{"too short to hear", wav(96000, 1, 16, one), "the file holds no sound"},
		{"a chunk larger than any file", append(riff(chunk("fmt ", good)), "junk\xff\xff\xff\xffdata"...), "the file holds no sound"},
		{"data first", riff(chunk("data", one), chunk("fmt ", good)), "the file has its sound before its format; " + convert},
		{"format cut short", riff(chunk("fmt ", good[:15])), "the file is cut short in its format"},
		{"float", riff(chunk("fmt ", with(good, 0, 3)), chunk("data", one)), "the file is of kind 0x3, not PCM; " + convert},
		{"extensible float", riff(chunk("fmt ", extensible(3)), chunk("data", one)), "the file is of kind 0x3, not PCM; " + convert},
		{"extensible cut short", riff(chunk("fmt ", extensible(1)[:39]), chunk("data", one)), "the file is of kind 0xfffe, not PCM; " + convert},
		{"24 bits", wav(48000, 2, 24, make([]byte, 6)), "the file has 2 channels of 24 bits, not 1 or 2 of 8 or 16; " + convert},
		{"no bits", wav(48000, 1, 0, one), "the file has 1 channels of 0 bits, not 1 or 2 of 8 or 16; " + convert},
		{"no channels", wav(48000, 0, 16, one), "the file has 0 channels of 16 bits, not 1 or 2 of 8 or 16; " + convert},
		{"surround", wav(48000, 6, 16, make([]byte, 12)), "the file has 6 channels of 16 bits, not 1 or 2 of 8 or 16; " + convert},
		{"no rate", wav(0, 1, 16, one), "the header of the file contradicts itself; " + convert},
		{"frames of another size", riff(chunk("fmt ", with(good, 12, 0)), chunk("data", one)), "the header of the file contradicts itself; " + convert},
		{"slow", wav(1, 1, 8, make([]byte, 11)), "the sound takes 11 seconds; use one of 10 or less"},
		{"fast", wav(math.MaxInt32, 1, 8, make([]byte, 1000)), "the file holds no sound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(tt.file)
			if tt.want != "" {
				assert.EqualError(t, err, tt.want)
				assert.Empty(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestLoadSize(t *testing.T) {
	name := t.TempDir() + "/x.wav"
	require.NoError(t, os.WriteFile(name, wav(96000, 2, 16, make([]byte, maxSeconds*96000*4)), 0o600))
	pcm, err := load(name)
	require.NoError(t, err)
	assert.Len(t, pcm, maxSeconds*rate*frameSize)
}

func FuzzWAV(f *testing.F) {
	for _, rate := range []int{1, 8000, 44100, 48000} {
		f.Add(wav(rate, 1, 8, []byte{0, 128, 255, 3}))
		f.Add(wav(rate, 2, 16, []byte{0, 128, 255, 127, 1, 2, 3, 4}))
	}
	f.Add(riff(chunk("fmt ", extensible(1)), chunk("odd ", []byte{1}), chunk("data", []byte{1, 2})))
	f.Fuzz(func(t *testing.T, file []byte) {
		pcm, err := decode(file)
		if err != nil {
			require.Empty(t, pcm, "with %v", err)
			return
		}
		require.NotEmpty(t, pcm)
		require.Zero(t, len(pcm)%frameSize)
		require.LessOrEqual(t, len(pcm), maxSeconds*rate*frameSize)
		// A file of what was decoded decodes into itself.
		again, err := decode(wav(rate, 2, 16, pcm))
		require.NoError(t, err)
		require.True(t, bytes.Equal(pcm, again))
	})
}

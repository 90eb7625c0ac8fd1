package sound

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	maxFile    = 10 << 20 // bytes of a WAV file
	maxSeconds = 10       // seconds of its sound
	convert    = "convert it with: ffmpeg -i IN.wav -ac 2 -c:a pcm_s16le OUT.wav"
)

// load reads a WAV file into what the device plays.
func load(name string) ([]byte, error) {
	// To open a pipe would block.
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, usage)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file; %s", name, usage)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s has more than %d MB; use a shorter sound", name, maxFile>>20)
	}
	pcm, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return pcm, nil
}

func decode(file []byte) ([]byte, error) {
	if len(file) < 12 || string(file[:4]) != "RIFF" || string(file[8:12]) != "WAVE" {
		return nil, errors.New("this is not a WAV file; " + convert)
	}
	var f format
	for rest := file[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), uint64(binary.LittleEndian.Uint32(rest[4:]))
		rest = rest[8:]
		// The size is wrong in files that were written into a pipe.
		body := rest[:min(size, uint64(len(rest)))]
		switch id {
		case "fmt ":
			var err error
			if f, err = parseFormat(body); err != nil {
				return nil, err
			}
		case "data":
			return f.decode(body)
		}
		rest = rest[min(size+size%2, uint64(len(rest))):]
	}
	return nil, errors.New("the file holds no sound")
}

// A format is that of the samples in a WAV file.
type format struct {
	channels, bytes int // bytes of a sample
	rate            int64
}

func parseFormat(b []byte) (format, error) {
	if len(b) < 16 {
		return format{}, errors.New("the file is cut short in its format")
	}
	le := binary.LittleEndian
	kind, channels, bits := le.Uint16(b), le.Uint16(b[2:]), le.Uint16(b[14:])
	const extensible, guid = 0xFFFE, "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xAA\x00\x38\x9B\x71"
	if kind == extensible && len(b) >= 40 && string(b[26:40]) == guid {
		kind = le.Uint16(b[24:])
	}
	f := format{channels: int(channels), bytes: int(bits / 8), rate: int64(le.Uint32(b[4:]))}
	switch {
	case kind != 1:
		return format{}, fmt.Errorf("the file is of kind %#x, not PCM; %s", kind, convert)
	case channels != 1 && channels != 2, bits != 8 && bits != 16:
		return format{}, fmt.Errorf("the file has %d channels of %d bits, not 1 or 2 of 8 or 16; %s", channels, bits, convert)
	case f.rate == 0 || int(le.Uint16(b[12:])) != f.channels*f.bytes:
		return format{}, errors.New("the header of the file contradicts itself; " + convert)
	}
	return f, nil
}

// decode returns samples at the rate of the device, by linear interpolation.
func (f format) decode(data []byte) ([]byte, error) {
	if f.rate == 0 {
		return nil, errors.New("the file has its sound before its format; " + convert)
	}
	frames := int64(len(data) / (f.channels * f.bytes))
	if frames > maxSeconds*f.rate {
		return nil, fmt.Errorf("the sound takes %d seconds; use one of %d or less", frames/f.rate, maxSeconds)
	}
	at := func(frame int64, channel int) int64 {
		i := (int(min(frame, frames-1))*f.channels + min(channel, f.channels-1)) * f.bytes
		if f.bytes == 1 {
			return (int64(data[i]) - 128) << 8
		}
		return int64(int16(binary.LittleEndian.Uint16(data[i:])))
	}
	n := frames * rate / f.rate
	if n == 0 {
		return nil, errors.New("the file holds no sound")
	}
	pcm := make([]byte, 0, n*frameSize)
	for i := range n {
		frame, part := i*f.rate/rate, i*f.rate%rate
		for channel := range 2 {
			a, b := at(frame, channel), at(frame+1, channel)
			pcm = binary.LittleEndian.AppendUint16(pcm, uint16(int16(a+(b-a)*part/rate)))
		}
	}
	return pcm, nil
}

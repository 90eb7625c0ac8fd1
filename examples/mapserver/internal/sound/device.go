package sound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ebitengine/oto/v3"
)

// What the device plays: 16 bit little-endian stereo.
const (
	rate      = 48000 // frames a second
	frameSize = 4
)

const (
	deviceTimeout = 3 * time.Second        // with the device
	drainTime     = 300 * time.Millisecond // what the device may hold of a sound

	// PulseAudio drops the first 10 to 15 ms after Resume, which clicks.
	leadIn = rate / 20 * frameSize
)

var errDevice = errors.New("no sound device")

// A process can have one context of oto, and one attempt to open it.
var opened = sync.OnceValue(func() (d struct {
	context *oto.Context
	ready   chan struct{}
	err     error
}) {
	silenceALSA()
	d.context, d.ready, d.err = oto.NewContext(&oto.NewContextOptions{
		SampleRate: rate, ChannelCount: 2, Format: oto.FormatSignedInt16LE, ApplicationName: "connmap"})
	return d
})

var inUse sync.Mutex

// device returns a sound that plays pcm on the sound device. It is skipped while another
// Player uses the device.
func device(pcm []byte) func(context.Context) error {
	pcm = append(make([]byte, leadIn), pcm...)
	return func(ctx context.Context) error {
		if !inUse.TryLock() {
			return nil
		}
		defer inUse.Unlock()
		if err := play(ctx, pcm); err != nil {
			return fmt.Errorf("%w: %w", errDevice, err)
		}
		return nil
	}
}

func play(ctx context.Context, pcm []byte) error {
	d := opened()
	if d.err != nil {
		return d.err
	}
	select {
	case <-d.ready:
	case <-ctx.Done():
		return nil
	case <-time.After(deviceTimeout):
		return fmt.Errorf("not ready after %v", deviceTimeout)
	}
	// Err has the errors of Resume and Suspend too.
	d.context.Resume()
	if err := d.context.Err(); err != nil {
		return err
	}
	player := d.context.NewPlayer(bytes.NewReader(pcm))
	// Removes the rest of a stopped sound from the mixer.
	defer player.PauseAndStopReading()
	player.Play()

	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	late := time.After(deviceTimeout + time.Duration(len(pcm)/frameSize)*time.Second/rate)
	for player.IsPlaying() {
		select {
		case <-ctx.Done():
			return nil // not suspended: a device that hangs would make this wait
		case <-late:
			return errors.New("it stopped taking sound")
		case <-poll.C:
			if err := d.context.Err(); err != nil {
				return err
			}
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(drainTime):
	}
	// Otherwise it goes on to play silence, which takes a percent of a core.
	d.context.Suspend()
	return d.context.Err()
}

// Package sound plays the beep of the map window: a tone, a WAV file or
// whatever a command of the user's makes. It is not a mixer: there is one sound
// at a time, and what would come too soon after it is dropped.
package sound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	pause  = time.Second     // from the start of one sound to the next
	limit  = 5 * time.Second // for a command
	wanted = "want the name of a .wav file, a command with its arguments, none, or nothing for a short tone"
)

// A Player plays one sound, at most once a second and never twice at a time.
// It is safe for concurrent use. The zero Player is silent.
type Player struct {
	log     *slog.Logger
	now     func() time.Time
	said    sync.Once // what is wrong
	playing sync.WaitGroup

	mu    sync.Mutex
	sound func(context.Context) error // returns when it has been heard; nil is silence
	last  time.Time
	stop  context.CancelFunc // of the sound being played; nil if there is none
}

// New returns a Player of the sound that spec names. Empty is a short tone,
// none is silence, and the name of a file that ends in .wav is 10 seconds at
// most of PCM, 8 or 16 bit, mono or stereo. All else is a command, cut at
// spaces outside of quotes and run without a shell; it has 5 seconds.
//
// What goes wrong later is told to log, once; nil discards it.
func New(spec string, log *slog.Logger) (*Player, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sound, err := parse(strings.TrimSpace(spec))
	if err != nil {
		return nil, fmt.Errorf("sound: %w", err)
	}
	return &Player{log: log, now: time.Now, sound: sound}, nil
}

// Play starts the sound and returns at once. It does nothing within a second of
// the last sound, while that still lasts, and after Close.
//
// The first call opens the sound device. Without one the Player is silent.
func (p *Player) Play() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sound == nil || p.stop != nil {
		return
	}
	now := p.now()
	if now.Sub(p.last) < pause {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	p.last, p.stop = now, stop
	sound := p.sound
	p.playing.Go(func() { p.ended(ctx, sound(ctx)) })
}

func (p *Player) ended(ctx context.Context, err error) {
	p.mu.Lock()
	stopped := ctx.Err() != nil
	p.stop()
	p.stop = nil
	deaf := errors.Is(err, errDevice)
	if deaf {
		p.sound = nil
	}
	p.mu.Unlock()
	switch {
	case err == nil || stopped:
	case deaf:
		p.said.Do(func() { p.log.Info("there is no sound from now on", "error", err) })
	default:
		p.said.Do(func() { p.log.Warn("the sound failed, later ones may not", "error", err) })
	}
}

// Close stops a sound that is being played, kills its command, and waits for
// its end. The Player is silent from then on. The error is always nil.
func (p *Player) Close() error {
	p.mu.Lock()
	p.sound = nil
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	p.playing.Wait()
	return nil
}

func parse(spec string) (func(context.Context) error, error) {
	switch spec {
	case "":
		return device(tone()), nil
	case "none":
		return nil, nil
	}
	isWAV := func(name string) bool { return strings.EqualFold(filepath.Ext(name), ".wav") }
	argv := []string{spec}
	// A command too may end in the name of a file, and that of a file hold spaces.
	if _, err := os.Stat(spec); err != nil || !isWAV(spec) {
		if argv, err = split(spec); err != nil {
			return nil, err
		}
	}
	if len(argv) == 1 && isWAV(argv[0]) {
		pcm, err := load(argv[0])
		if err != nil {
			return nil, err
		}
		return device(pcm), nil
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		if isWAV(spec) {
			return nil, fmt.Errorf("there is neither a file %q nor a command %q; %s", spec, argv[0], wanted)
		}
		return nil, fmt.Errorf("%w; %s", err, wanted)
	}
	return command(argv, limit), nil
}

// split cuts a command line at spaces. Quotes, single or double, keep them;
// nothing else means anything: backslashes are of Windows, and all else is for
// shells.
func split(line string) ([]string, error) {
	var words []string
	var word []byte // nil between words
	var quote byte
	for _, c := range []byte(line) {
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
			word = append([]byte{}, word...)
		case quote == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			if word != nil {
				words = append(words, string(word))
			}
			word = nil
		default:
			word = append(word, c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed in %s", quote, line)
	}
	if word != nil {
		words = append(words, string(word))
	}
	return words, nil
}

// command runs a command that reads nothing and whose output nobody sees.
func command(argv []string, limit time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("killed after %v", limit))
		defer cancel()
		err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w", argv[0], err)
	}
}

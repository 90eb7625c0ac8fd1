// Package sound plays the beep of the map window: a tone, a WAV file or a command of the
// user's. It is not a mixer: it plays one sound at a time, and drops those that come too soon.
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
	minInterval    = time.Second     // from the start of one sound to the next
	commandTimeout = 5 * time.Second // for a command
	usage          = "expected the name of a .wav file, a command with its arguments, none, or nothing for a short tone"
)

// A Player plays one sound, at most once a second and never twice at a time.
// It is safe for concurrent use. The zero Player is silent.
type Player struct {
	log     *slog.Logger
	now     func() time.Time
	logOnce sync.Once // what is wrong
	playing sync.WaitGroup

	mu    sync.Mutex
	sound func(context.Context) error // returns at the end of the sound; nil: silent
	last  time.Time
	stop  context.CancelFunc // of the sound being played; nil if there is none
}

// New returns a Player of the sound that spec names. Empty means a short tone, none means
// silence. A name that ends in .wav is a file of at most 10 seconds of PCM, 8 or 16 bit, mono
// or stereo. All else is a command, split at spaces outside of quotes and run without a shell;
// it is killed after 5 seconds.
//
// Later errors are logged once; a nil log discards them.
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
	if now.Sub(p.last) < minInterval {
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
	noDevice := errors.Is(err, errDevice)
	if noDevice {
		p.sound = nil
	}
	p.mu.Unlock()
	switch {
	case err == nil || stopped:
	case noDevice:
		p.logOnce.Do(func() { p.log.Info("no more sounds will be played: the sound device failed", "error", err) })
	default:
		p.logOnce.Do(func() { p.log.Warn("a sound failed; later ones are tried", "error", err) })
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
	// A command may also end in .wav, and the name of a file may contain spaces.
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
			return nil, fmt.Errorf("there is neither a file %q nor a command %q; %s", spec, argv[0], usage)
		}
		return nil, fmt.Errorf("%w; %s", err, usage)
	}
	return command(argv, commandTimeout), nil
}

// split splits a command line at spaces, except within single or double quotes. Nothing else
// is special: backslashes occur in paths of Windows.
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

// command returns a sound that runs a command, without input and output.
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

package conntrack

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limitedPolls is a backend that does not see all.
type limitedPolls struct {
	polls
	name    Backend
	limited string
}

func (l *limitedPolls) info() Info { return Info{Backend: l.name, Limited: l.limited} }

func TestFallThrough(t *testing.T) {
	var tried []Backend
	works := func(name Backend, limited string) candidate {
		return candidate{name, func(Options) (backend, error) {
			tried = append(tried, name)
			return &limitedPolls{name: name, limited: limited}, nil
		}}
	}
	fails := func(name Backend, err error) candidate {
		return candidate{name, func(Options) (backend, error) {
			tried = append(tried, name)
			return nil, err
		}}
	}
	const fromEBPF = "ebpf does not work here: unexpected EOF"
	for _, tt := range []struct {
		name       string
		ask        Backend
		candidates []candidate
		tried      []Backend
		want       Info
		err        string
	}{
		{"the best", Auto, []candidate{works(EBPF, "few"), works(Diag, "")}, []Backend{EBPF}, Info{Backend: EBPF, Limited: "few"}, ""},
		{"the second", Auto, []candidate{fails(EBPF, io.ErrUnexpectedEOF), works(Diag, ""), works(Proc, "")}, []Backend{EBPF, Diag},
			Info{Backend: Diag, Limited: fromEBPF}, ""},
		{"the third", Auto, []candidate{fails(EBPF, io.ErrUnexpectedEOF), fails(Diag, fs.ErrPermission), works(Proc, "no bytes")}, []Backend{EBPF, Diag, Proc},
			Info{Backend: Proc, Limited: fromEBPF + "; diag does not work here: permission denied; no bytes"}, ""},
		{"none", Auto, []candidate{fails(EBPF, io.ErrUnexpectedEOF), fails(Diag, fs.ErrPermission), fails(Proc, errors.ErrUnsupported)}, []Backend{EBPF, Diag, Proc},
			Info{}, "conntrack: ebpf: unexpected EOF; diag: permission denied; proc: unsupported operation"},
		{"that one", Proc, []candidate{fails(EBPF, io.ErrUnexpectedEOF), works(Diag, ""), works(Proc, "no bytes")}, []Backend{Proc},
			Info{Backend: Proc, Limited: "no bytes"}, ""},
		{"only that one", EBPF, []candidate{fails(EBPF, fs.ErrPermission), works(Diag, "")}, []Backend{EBPF},
			Info{}, "conntrack: ebpf: permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func(old []candidate) { candidates = old }(candidates)
			candidates, tried = tt.candidates, nil
			c, err := New(Options{Backend: tt.ask})
			assert.Equal(t, tt.tried, tried)
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				if tt.ask == Auto {
					assert.ErrorIs(t, err, errors.ErrUnsupported)
				}
				assert.ErrorIs(t, err, fs.ErrPermission)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, c.Info())
		})
	}
}

func TestInfoNamesTheBackend(t *testing.T) {
	eachPolled(t, func(t *testing.T, b Backend) {
		assert.Equal(t, b, newCollector(t, Options{Backend: b}).Info().Backend)
	})
}

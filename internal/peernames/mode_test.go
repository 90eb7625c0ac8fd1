package peernames

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOf(t *testing.T) {
	for name, domain := range map[string]string{
		"www.example.com": "example.com", "a.b.example.co.uk": "example.co.uk", "example.com": "example.com",
		"printer": "printer", "printer.local": "printer.local", "co.uk": "co.uk", "": "",
		"a.b.github.io": "b.github.io", "www.xn--mnchen-3ya.example": "xn--mnchen-3ya.example",
	} {
		assert.Equal(t, name, Full.Of(name))
		assert.Equal(t, domain, Domain.Of(name))
		assert.Empty(t, Off.Of(name))
	}
}

func TestText(t *testing.T) {
	for _, m := range []Mode{Full, Domain, Off} {
		text, err := m.MarshalText()
		assert.NoError(t, err)
		var got Mode
		assert.NoError(t, got.UnmarshalText(text))
		assert.Equal(t, m, got)
	}
	assert.EqualError(t, new(Mode).UnmarshalText([]byte("on")), "use full, domain or off")
}

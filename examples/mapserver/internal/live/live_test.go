package live

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

func TestEndpoint(t *testing.T) {
	for _, want := range []netip.AddrPort{
		{},
		netip.MustParseAddrPort("192.0.2.1:443"),
		netip.MustParseAddrPort("0.0.0.0:0"),
		netip.MustParseAddrPort("[2001:db8::1]:65535"),
		netip.MustParseAddrPort("[::]:0"),
		netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"),
	} {
		e := EndpointOf(want)
		assert.Equal(t, want, e.AddrPort())
		assert.Equal(t, want.Addr(), e.Addr())
		assert.Equal(t, want.Port(), e.Port())
		assert.Equal(t, want.String(), e.String())
	}
	assert.NotEqual(t, EndpointOf(netip.MustParseAddrPort("0.0.0.0:1")), EndpointOf(netip.MustParseAddrPort("[::ffff:0.0.0.0]:1")))
}

func TestStamp(t *testing.T) {
	for _, want := range []time.Time{{}, time.UnixMicro(1_782_907_200_000_001), time.UnixMicro(-1)} {
		assert.True(t, StampOf(want).Time().Equal(want), want)
	}
	assert.Zero(t, StampOf(time.Time{}))
}

// TestSize: a server of a million connections has a million of these.
func TestSize(t *testing.T) { assert.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(224)) }

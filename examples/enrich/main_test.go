package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEnrich(t *testing.T) {
	var out strings.Builder
	in := "198.41.0.4:443 firefox\n\n[2001:500:88:200::8]:53\n198.41.0.4\n192.0.2.1:22\nnonsense <x>\n"
	require.NoError(t, run(nil, strings.NewReader(in), &out, io.Discard))
	var got []answer
	for d := json.NewDecoder(strings.NewReader(out.String())); d.More(); {
		var a answer
		require.NoError(t, d.Decode(&a))
		got = append(got, a)
	}
	require.Len(t, got, 5, out.String())
	assert.Equal(t, "198.41.0.4", got[0].Address)
	assert.Equal(t, "US", got[0].Country)
	assert.Equal(t, "country", got[0].Precision)
	require.NotNil(t, got[0].Lat)
	assert.NotZero(t, got[0].ASN)
	assert.NotEmpty(t, got[0].Org)
	assert.Contains(t, got[0].Rule, "Web")
	assert.Equal(t, "2001:500:88:200::8", got[1].Address)
	assert.Contains(t, got[1].Rule, "DNS")
	assert.Empty(t, got[2].Rule, "without a port no rule says anything")
	assert.Nil(t, got[3].Lat, "nobody is there")
	assert.Contains(t, got[3].Rule, "SSH")
	assert.Equal(t, answer{Address: "nonsense", Error: "neither an address nor an address with a port"}, got[4])
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	geo, nets, rc := filepath.Join(dir, "ipv4.csv"), filepath.Join(dir, "asn.csv"), filepath.Join(dir, "connmaprc")
	require.NoError(t, os.WriteFile(geo, []byte("3221225984,3221226239,52.5,13.4\n"), 0o600))
	require.NoError(t, os.WriteFile(nets, []byte("network,autonomous_system_number,autonomous_system_organization\n192.0.2.0/24,64496,Example\n"), 0o600))
	require.NoError(t, os.WriteFile(rc, []byte(`"Mine",peer,7,1,2,3,255,0,0`+"\n"), 0o600))
	var out strings.Builder
	require.NoError(t, run([]string{"-geo", geo, "-asn", nets, "-rules", rc}, strings.NewReader("192.0.2.9:7"), &out, io.Discard))
	var got answer
	require.NoError(t, json.Unmarshal([]byte(out.String()), &got))
	require.NotNil(t, got.Lat)
	assert.InDelta(t, 52.5, *got.Lat, 0.001)
	assert.Equal(t, uint32(64496), got.ASN)
	assert.Equal(t, "Mine", got.Rule)

	// A bad line costs that line.
	require.NoError(t, os.WriteFile(rc, []byte("nonsense\n"+`"Mine",peer,7,1,2,3,255,0,0`+"\n"), 0o600))
	var errs strings.Builder
	out.Reset()
	require.NoError(t, run([]string{"-rules", rc}, strings.NewReader("192.0.2.9:7"), &out, &errs))
	assert.Contains(t, out.String(), `"Mine"`)
	assert.Contains(t, errs.String(), "enrich: "+rc+": the other rules are used\nline 1: expected the 9 fields")
	require.NoError(t, os.WriteFile(rc, []byte("nonsense\n"), 0o600))
	assert.ErrorContains(t, run([]string{"-rules", rc}, strings.NewReader(""), &out, io.Discard), "line 1: expected the 9 fields")

	for _, flag := range []string{"-geo", "-asn", "-rules"} {
		assert.ErrorContains(t, run([]string{flag, filepath.Join(dir, "none")}, strings.NewReader(""), &out, io.Discard), "none", flag)
	}
}

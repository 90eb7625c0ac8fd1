package main

import (
	"context"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/feed"
)

func newToken(t *testing.T) string {
	t.Helper()
	id, err := feed.LoadIdentity(t.TempDir())
	require.NoError(t, err)
	return id.Token().String()
}

func TestInstallRefuses(t *testing.T) {
	token := newToken(t)
	t.Setenv("CONNMAP_TOKEN", "")
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	for name, args := range map[string][]string{
		"no token": {"map"}, "nothing": nil, "damaged token": {"map", token[:20]},
		"a password without certificate": {"map", "open sesame"}, "no certificate": {"-cert", "/dev/null", "map", "open sesame"},
		"a host that is more": {"map; rm -rf /", token}, "a name that is more": {"-name", "a b", "map", token}, "more": {"map", token, "x"}, "flag": {"-nonsense"},
	} {
		root := t.TempDir()
		err := install(context.Background(), append([]string{"-root", root}, args...), io.Discard, io.Discard)
		assert.Error(t, err, name)
		left, _ := os.ReadDir(root)
		assert.Empty(t, left, name)
	}
}

func TestUninstallRefuses(t *testing.T) {
	for name, args := range map[string][]string{"an argument": {"now"}, "flag": {"-nonsense"}} {
		assert.Error(t, run(t.Context(), append([]string{"uninstall"}, args...), io.Discard, io.Discard), name)
	}
}

// TestAgentArgs: an agent takes the arguments that a service gives it as they are meant.
func TestAgentArgs(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   installer
		want options
	}{
		{"token", installer{host: "map.example:1234"}, options{host: "map.example:1234"}},
		{"password", installer{host: "-map", name: "nas", cert: []byte("a certificate")}, options{host: "-map", name: "nas", cert: serverFile}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.in.agentArgs("state"), io.Discard, io.Discard)
			require.NoError(t, err)
			want := tt.want
			want.tokenFile, want.key, want.spool, want.interval = tokenFile, filepath.Join("state", "agent-key.pem"), filepath.Join("state", "spool"), time.Second
			if want.name == "" {
				want.name, _ = os.Hostname()
			}
			assert.Equal(t, want, got)
		})
	}
}

// TestLaunchdPlist: the property list is the XML that Apple's document type allows, with the
// command word by word.
func TestLaunchdPlist(t *testing.T) {
	command := []string{"/usr/local/bin/connmap-agent", "-name", `a<b>&"c"`, "--", "map.example"}
	plist := launchdPlist("/var/log/x.log", command...)
	var root struct {
		XMLName xml.Name `xml:"plist"`
		Version string   `xml:"version,attr"`
		Dict    struct {
			Nodes []struct {
				XMLName xml.Name
				Text    string   `xml:",chardata"`
				Strings []string `xml:"string"`
			} `xml:",any"`
		} `xml:"dict"`
	}
	require.NoError(t, xml.Unmarshal(plist, &root))
	assert.Equal(t, "1.0", root.Version)
	got := make(map[string]string)
	require.Zero(t, len(root.Dict.Nodes)%2, "keys and values")
	for i := 0; i < len(root.Dict.Nodes); i += 2 {
		key, value := root.Dict.Nodes[i], root.Dict.Nodes[i+1]
		require.Equal(t, "key", key.XMLName.Local)
		got[key.Text] = value.XMLName.Local
		switch value.XMLName.Local {
		case "string", "integer":
			got[key.Text] += " " + value.Text
		case "array":
			assert.Equal(t, command, value.Strings)
		}
	}
	assert.Equal(t, map[string]string{
		"Label": "string connmap-agent", "ProgramArguments": "array", "StandardErrorPath": "string /var/log/x.log", "RunAtLoad": "true", "KeepAlive": "true",
		"ThrottleInterval": "integer 10", "ProcessType": "string Background", "Umask": "integer 63",
	}, got)
}

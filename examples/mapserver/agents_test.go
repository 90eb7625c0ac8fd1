package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/conntrack/conntracktest"
	"github.com/connmapgo/connmap/conntrack/feed"
	"github.com/connmapgo/connmap/examples/mapserver/internal/monitor"
	"github.com/connmapgo/connmap/rules"
)

// ask runs a command of the server and returns what it prints.
func ask(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out, io.Discard)
	return out.String(), err
}

// TestShortPassword: one that can be guessed is taken, with a warning where it is set.
func TestShortPassword(t *testing.T) {
	for password, want := range map[string]string{
		"":         "",
		"1234567":  "the password has only 7 characters: whoever reaches the port can guess",
		"x":        "the password has only 1 character: ",
		"12345678": "",
	} {
		dir := t.TempDir()
		var log bytes.Buffer
		a, err := start(t.Context(), config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc"), password: password}, slog.New(slog.NewTextHandler(&log, nil)))
		require.NoError(t, err)
		a.monitor.Publish()
		problems := strings.Join(a.monitor.State().Problems, "\n")
		a.stop()
		if want == "" {
			assert.NotContains(t, problems, "password")
		} else {
			assert.Contains(t, problems, want)
			assert.Contains(t, log.String(), want)
		}
	}
}

// TestAdminister: who may report is changed while a server runs.
func TestAdminister(t *testing.T) {
	dir := t.TempDir()
	out, err := ask(t, "agents", "list", "-config", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "no agent has joined yet")
	cfg := config{configDir: dir, dataDir: dir, listen: "127.0.0.1:0", noLocal: true, rules: filepath.Join(dir, "connmaprc"), password: "open sesame"}
	app, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer app.stop()
	line := func(args ...string) feed.Token {
		out, err := ask(t, append([]string{"token", "-config", dir, "-listen", app.listener.Addr().String()}, args...)...)
		require.NoError(t, err)
		found := regexp.MustCompile(`connmap-agent ` + regexp.QuoteMeta(app.listener.Addr().String()) + ` -\n(?s:.*)\n    (cm1_\S+)\n`).FindStringSubmatch(out)
		require.NotNil(t, found, out)
		assert.Contains(t, out, feed.Fingerprint(app.identity.Certificate()))
		assert.Equal(t, strings.Contains(strings.Join(args, " "), "-expires"), strings.Contains(out, "works until"))
		token, err := feed.ParseToken(found[1])
		require.NoError(t, err)
		return token
	}
	assert.Equal(t, app.identity.Token(), line())
	report := func(token feed.Token, name string) {
		key, err := feed.LoadKey(filepath.Join(t.TempDir(), "key"))
		require.NoError(t, err)
		c := &feed.Client{Addr: app.listener.Addr().String(), Token: token, Key: key, Name: name, Source: conntracktest.Source{N: 3, Seed: 1}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	names := func() (names []string) {
		for _, a := range app.monitor.State().Agents {
			names = append(names, a.Name)
		}
		return names
	}
	report(line("-expires", "1h"), "nas")
	password, err := feed.PasswordToken("open sesame", app.identity.Certificate())
	require.NoError(t, err)
	report(password, "old")
	report(line("-rotate"), "web")
	require.Eventually(t, func() bool { return len(names()) == 3 }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, []string{"nas", "old", "web"}, names())

	_, err = ask(t, "agents", "rename", "web", "www", "-config", dir)
	require.NoError(t, err)
	out, err = ask(t, "agents", "-config", dir, "revoke", "nas")
	require.NoError(t, err)
	assert.Contains(t, out, "mapserver token -rotate")
	require.Eventually(t, func() bool { return strings.Join(names(), " ") == "old www" }, time.Minute, 10*time.Millisecond)
	out, err = ask(t, "agents", "list", "-config", dir)
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^nas +127\.0\.0\.1 .* revoked 20`, out)
	assert.Regexp(t, `(?m)^www +127\.0\.0\.1 +20\d\d-\d\d-\d\d \d\d:\d\d +20.* [0-9a-f]{12} +may report$`, out)

	for args, want := range map[string]string{
		"agents": "expected list", "agents list x": "expected list", "agents revoke nobody": "no agent is called", "agents -nonsense": "-h lists",
		"token x": "unexpected argument", "token -expires -1s": "1s or more", "token -listen x": "expected an address",
	} {
		_, err := ask(t, append(strings.Fields(args), "-config", dir)...)
		assert.ErrorContains(t, err, want, args)
	}
}

// TestApproveAgents: with -approve a new agent reports when somebody lets it.
func TestApproveAgents(t *testing.T) {
	dir := t.TempDir()
	cfg, err := parse([]string{"-approve"}, io.Discard)
	require.NoError(t, err)
	cfg.configDir, cfg.dataDir, cfg.history, cfg.listen, cfg.fallback = dir, dir, "", "127.0.0.1:0", false
	cfg.noLocal, cfg.rules = true, filepath.Join(dir, "connmaprc")
	app, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer app.stop()
	key, err := feed.LoadKey(filepath.Join(dir, "key"))
	require.NoError(t, err)
	c := &feed.Client{Addr: app.listener.Addr().String(), Token: app.identity.Token(), Key: key, Name: "nas", Source: conntracktest.Source{N: 3, Seed: 1}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	var out string
	require.Eventually(t, func() bool {
		out, err = ask(t, "agents", "list", "-config", dir)
		return err == nil && strings.Contains(out, "waits for approval")
	}, time.Minute, 10*time.Millisecond)
	assert.Empty(t, app.monitor.State().Agents)
	out, err = ask(t, "agents", "approve", "nas", "-config", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "nas may report")
	require.Eventually(t, func() bool { return len(app.monitor.State().Agents) == 1 }, time.Minute, 10*time.Millisecond)
	out, err = ask(t, "agents", "list", "-config", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "may report")
	out, err = ask(t, "agents", "approve", "nas", "-config", dir)
	require.NoError(t, err)
	assert.Contains(t, out, "nas was not waiting for approval")
	_, err = ask(t, "agents", "approve", "nobody", "-config", dir)
	assert.ErrorContains(t, err, "no agent is called")
}

// TestApprovalIsRemembered: a server that was started with -approve once asks for approval
// until somebody ends that, however it is started meanwhile.
func TestApprovalIsRemembered(t *testing.T) {
	dir := t.TempDir()
	for i, tt := range []struct {
		args []string
		want bool
	}{
		{nil, false}, {[]string{"-approve"}, true}, {nil, true}, {[]string{"-max-agents", "7"}, true},
		{[]string{"-approve=false"}, false}, {nil, false}, {[]string{"-approve=true"}, true}, {nil, true},
	} {
		cfg, err := parse(tt.args, io.Discard)
		require.NoError(t, err)
		cfg.configDir, cfg.listen, cfg.fallback = dir, "127.0.0.1:0", false
		a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
		require.NoError(t, a.listen())
		require.NotNil(t, a.listener)
		a.listener.Close()
		assert.Equal(t, tt.want, a.approve, "start %d, %v", i+1, tt.args)
		var out bytes.Buffer
		a.greet(&out)
		assert.Equal(t, tt.want, strings.Contains(out.String(), "New agents must be approved with mapserver agents approve; -approve=false turns this off."), out.String())
	}
	_, err := parse([]string{"-approve=perhaps"}, io.Discard)
	assert.ErrorContains(t, err, "approve")
	// What cannot be known or kept lets nobody in.
	require.NoError(t, os.Remove(filepath.Join(dir, "agents-approve")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "agents-approve", "full"), 0o700))
	for _, asked := range []bool{false, true} {
		a := &app{cfg: config{configDir: dir, listen: "127.0.0.1:0", approve: &asked}, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
		require.NoError(t, a.listen())
		assert.Nil(t, a.listener, "asked for %v", asked)
	}
}

// TestLongNamesInList: an agent cannot push what the list says of others out of sight.
func TestLongNamesInList(t *testing.T) {
	dir := t.TempDir()
	line := `[{"key":"%s","name":"%s","addr":"192.0.2.1","joined":"2026-01-01T00:00:00Z","seen":"2026-01-01T00:00:00Z"}]`
	key := strings.Repeat("ab", 32)
	require.NoError(t, os.WriteFile(registryFile(dir), fmt.Appendf(nil, line, key, strings.Repeat("é", 120)), 0o600))
	out, err := ask(t, "agents", "list", "-config", dir)
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^`+strings.Repeat("é", 39)+`…  192\.0\.2\.1 .* abababababab  may report$`, out)
	_, err = ask(t, "agents", "revoke", key[:12], "-config", dir)
	assert.NoError(t, err)
}

// TestNamesLikeFlags: what agents call themselves can be a flag.
func TestNamesLikeFlags(t *testing.T) {
	dir := t.TempDir()
	var list []string
	for i, name := range []string{"-rf", "-h", "--"} {
		list = append(list, fmt.Sprintf(`{"key":"%s","name":"%s","addr":"192.0.2.1","joined":"2026-01-01T00:00:00Z","seen":"2026-01-01T00:00:00Z"}`, strings.Repeat(fmt.Sprintf("%02x", i+1), 32), name))
	}
	require.NoError(t, os.WriteFile(registryFile(dir), []byte("["+strings.Join(list, ",")+"]"), 0o600))
	_, err := ask(t, "agents", "-config", dir, "revoke", "-rf")
	assert.ErrorContains(t, err, "before a name that begins with - put --")
	for _, args := range [][]string{{"rename", "--", "-h", "-x"}, {"approve", "--", "--"}, {"revoke", "--", "-rf"}, {"--", "revoke", "-x"}} {
		_, err := ask(t, append([]string{"agents", "-config", dir}, args...)...)
		assert.NoError(t, err, args)
	}
	out, err := ask(t, "agents", "list", "-config", dir)
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^-rf .* revoked`, out)
	assert.Regexp(t, `(?m)^-x .* revoked`, out)
}

// TestListenFallback: where another program has the default port, as connmapperl's server,
// the other one is taken, and an agent without a port finds it there.
func TestListenFallback(t *testing.T) {
	ownFolders(t)
	cfg, err := parse(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, ":6789", cfg.listen, "connmapperl's port, which firewalls let through")
	assert.True(t, cfg.fallback)
	cfg, err = parse([]string{"-listen", ":6789"}, io.Discard)
	require.NoError(t, err)
	assert.False(t, cfg.fallback, "what is asked for is not replaced")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	a := &app{cfg: config{configDir: dir, listen: taken.Addr().String(), fallback: true}, log: slog.New(slog.DiscardHandler), monitor: &monitor.Monitor{}}
	if err := a.listen(); err != nil {
		// Another server on this machine has that one.
		assert.ErrorContains(t, err, taken.Addr().String()+" and :10789 is in use")
		return
	}
	defer a.listener.Close()
	assert.Equal(t, 10789, a.listener.Addr().(*net.TCPAddr).Port)
	var out bytes.Buffer
	a.greet(&out)
	assert.Contains(t, out.String(), "connmap-agent ")
	assert.NotContains(t, out.String(), "10789")
}

// TestOwnLinksHaveARule: the rule by which connmapperl's file names its links names ours.
func TestOwnLinksHaveARule(t *testing.T) {
	set, err := rules.Parse(strings.NewReader("\"connmap\",local,6789,90,90,20,200,0,0\n\"connmap\",peer,6789,90,90,20,200,0,0\n"))
	require.NoError(t, err)
	for _, c := range []rules.Conn{{Local: feed.DefaultPort, Peer: 40000}, {Local: 40000, Peer: feed.DefaultPort}} {
		r, _ := set.Match(c)
		assert.Equal(t, "connmap", r.Label)
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/internal/confine"
)

// statusOf returns what /proc says of the threads of a process under some keys: of each what
// they have in common, or all if they differ.
func statusOf(t *testing.T, pid int, keys ...string) map[string]string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	require.NotEmpty(t, tasks)
	got := make(map[string]string)
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.Join(strings.Fields(value), " ")
			for _, k := range keys {
				if before, ok := got[k]; k == key && !ok {
					got[k] = value
				} else if k == key && before != value {
					got[k] = before + "; " + value
				}
			}
		}
	}
	return got
}

// TestDropsRights: an agent that root starts by hand is nobody's and has what it needs alone,
// in all its threads, and sees the programs of others all the same.
func TestDropsRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	program := buildLinux(t)
	// A program of another user.
	self, err := os.Executable()
	require.NoError(t, err)
	holder := exec.Command("/proc/self/exe")
	holder.Env = append(os.Environ(), "CONNMAP_HOLD=1")
	holder.Dir = "/"
	holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	defer func() { in.Close(); holder.Wait() }()
	_, err = io.ReadFull(out, make([]byte, 6))
	require.NoError(t, err)

	const user = "2100006789"
	for _, tt := range []struct{ backend, caps string }{
		{"ebpf", "000000c000281000"}, {"diag", "0000000000080004"}, {"proc", "0000000000080004"},
	} {
		t.Run(tt.backend, func(t *testing.T) {
			agent := exec.Command(program, "-v", "-watch", "-json", "-loopback", "-backend", tt.backend, "-interval", "100ms")
			var said bytes.Buffer
			agent.Stderr = &said
			lines, err := agent.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, agent.Start())
			ended := false
			end := func() {
				if !ended {
					ended = true
					agent.Process.Signal(os.Interrupt)
					go io.Copy(io.Discard, lines)
					agent.Wait()
				}
			}
			defer end()
			// It has dropped them from here on: it reports nothing before.
			found, opened := false, false
			var mine net.Conn
			scan := bufio.NewScanner(lines)
			for !(found && opened) && scan.Scan() {
				if mine == nil {
					mine, _ = connected(t) // and another one that opens now
				}
				var line struct {
					PID        int
					Exe, Local string
				}
				require.NoError(t, json.Unmarshal(scan.Bytes(), &line), scan.Text())
				found = found || line.PID == holder.Process.Pid && line.Exe == self
				opened = opened || line.PID == os.Getpid() && line.Exe == self && line.Local == mine.LocalAddr().String()
			}
			if !found || !opened {
				end()
				if strings.Contains(said.String(), "unsupported") || strings.Contains(said.String(), "not supported") {
					t.Skip(said.String())
				}
				require.Fail(t, "connections are missing", "of another user %v, opened %v: %s", found, opened, said.String())
			}
			got := statusOf(t, agent.Process.Pid, "Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")
			ids := strings.Repeat(user+" ", 3) + user
			assert.Equal(t, map[string]string{
				"Uid": ids, "Gid": ids, "Groups": "", "CapEff": tt.caps, "CapPrm": tt.caps, "CapBnd": tt.caps, "NoNewPrivs": "1", "Seccomp": "2",
			}, got)
			end()
			assert.Regexp(t, `msg=rights user=`+user+` capabilities="CAP_.*" no_new_privs=true seccomp=true\n`, said.String())
			assert.NotContains(t, said.String(), "level=WARN")
		})
	}
}

// TestReportsWithoutRights: an agent that root has started reports, and hands its spool over.
func TestReportsWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are dropped")
	}
	program := buildLinux(t)
	id, dir, addr, d := open(t)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	spool, token := filepath.Join(dir, "state", "spool"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(token, []byte(id.Token().String()), 0o600))
	require.NoError(t, os.MkdirAll(spool, 0o755))
	left, notes := filepath.Join(spool, "000000000001-0-7.ends"), filepath.Join(spool, "notes")
	require.NoError(t, os.WriteFile(left, nil, 0o600)) // 7 that were lost before
	for i := range 3 {                                 // the second run works with what the first has left
		user := 2_100_006_789
		if i == 2 {
			// Somebody has named a folder of something else: nothing of it is given away.
			require.NoError(t, os.Chown(spool, 0, 0))
			require.NoError(t, os.WriteFile(notes, nil, 0o600))
			user = 0
		}
		agent := exec.Command(program, "-v", "-backend", "proc", "-token-file", token, "-key", filepath.Join(dir, "state", "agent-key.pem"), "-spool", spool, addr)
		var said bytes.Buffer
		agent.Stderr = &said
		require.NoError(t, agent.Start())
		if i == 2 {
			assert.Error(t, agent.Wait())
			assert.Contains(t, said.String(), spool+` is no folder for a spool, since "notes" is there too`)
		} else {
			require.Eventually(t, func() bool { return len(d.came()) > i }, time.Minute, 10*time.Millisecond)
			got := statusOf(t, agent.Process.Pid, "CapEff", "NoNewPrivs")
			assert.Equal(t, map[string]string{"CapEff": "0000000000080004", "NoNewPrivs": "1"}, got)
			require.NoError(t, agent.Process.Signal(os.Interrupt))
			require.NoError(t, agent.Wait())
		}
		info, err := os.Stat(spool)
		require.NoError(t, err)
		assert.EqualValues(t, user, info.Sys().(*syscall.Stat_t).Uid)
		assert.Contains(t, said.String(), fmt.Sprintf("msg=rights user=%d ", user))
	}
	assert.NoFileExists(t, left, "it was told")
	assert.FileExists(t, notes)
	info, err := os.Stat(filepath.Join(dir, "state", "agent-key.pem"))
	require.NoError(t, err)
	assert.Zero(t, info.Sys().(*syscall.Stat_t).Uid, "the key stays root's: it has been read")
}

// TestReadmeRights: README says what is kept.
func TestReadmeRights(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, s := range []confine.Set{confine.Following, confine.Polling, confine.Serving} {
		assert.Contains(t, string(b), "| "+s.String()+" |")
	}
	assert.Contains(t, string(b), "`mapserver` keeps "+confine.Set(confine.Giving).String()+" too")
}

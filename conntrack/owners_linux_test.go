package conntrack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const id64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestContainer(t *testing.T) {
	inner := strings.Repeat("fe", 32)
	for _, tt := range []struct{ name, cgroup, want string }{
		{"none", "0::/user.slice/user-1000.slice/session-2.scope\n", ""},
		{"docker with systemd", "0::/system.slice/docker-" + id64 + ".scope\n", id64},
		{"docker with cgroupfs", "12:pids:/docker/" + id64 + "\n11:cpu:/\n", id64},
		{"podman", "0::/user.slice/libpod-" + id64 + ".scope/container\n", id64},
		{"kubernetes", "0::/kubepods/besteffort/pod2f1c8f4e-8a1c-4f0e-9d59-0f2a8a3c1d11/" + id64 + "\n", id64},
		{"innermost", "0::/docker/" + id64 + "/docker/" + inner + "\n", inner},
		{"second line", "2:cpu:/\n1:name=systemd:/docker/" + id64, id64},
		{"too long", "0::/" + id64 + "0\n", ""},
		{"too short", "0::/" + id64[1:] + "\n", ""},
		{"upper case", "0::/" + strings.ToUpper(inner) + "\n", ""},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, container([]byte(tt.cgroup)))
		})
	}
}

func FuzzContainer(f *testing.F) {
	f.Add([]byte("0::/system.slice/docker-" + id64 + ".scope\n"))
	f.Add([]byte("0::/" + id64 + "0/" + id64 + "\n" + id64))
	digits := regexp.MustCompile(`[0-9a-f]+`)
	f.Fuzz(func(t *testing.T, b []byte) {
		want := ""
		for line := range bytes.Lines(b) {
			for _, run := range digits.FindAll(line, -1) {
				if len(run) == 64 {
					want = string(run)
				}
			}
			if want != "" {
				break
			}
		}
		if got := container(b); got != want {
			t.Errorf("container(%q) = %q, want %q", b, got, want)
		}
	})
}

func TestSocketInode(t *testing.T) {
	for _, tt := range []struct {
		link string
		want uint32
		ok   bool
	}{
		{"socket:[12345]", 12345, true},
		{"socket:[4294967295]", 4294967295, true},
		{"socket:[4294967296]", 0, false},
		{"socket:[]", 0, false},
		{"socket:[-1]", 0, false},
		{"socket:[12", 0, false},
		{"pipe:[12345]", 0, false},
		{"/tmp/socket:[1]", 0, false},
		{"", 0, false},
	} {
		got, ok := inodeOf([]byte(tt.link), "socket")
		assert.Equal(t, tt.ok, ok, tt.link)
		if ok {
			assert.Equal(t, tt.want, got, tt.link)
		}
	}
}

func FuzzSocketInode(f *testing.F) {
	f.Add([]byte("socket:[12345]"))
	f.Add([]byte("socket:[99999999999999999999]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var want uint64
		text, ok := strings.CutPrefix(string(b), "socket:[")
		if ok {
			text, ok = strings.CutSuffix(text, "]")
		}
		if ok {
			var err error
			want, err = strconv.ParseUint(text, 10, 32)
			ok = err == nil && len(text) <= 18
		}
		if got, gotOK := inodeOf(b, "socket"); gotOK != ok || ok && uint64(got) != want {
			t.Errorf("inodeOf(%q) = %d, %v, want %d, %v", b, got, gotOK, want, ok)
		}
	})
}

func FuzzDirent(f *testing.F) {
	dir, err := os.Open(f.TempDir())
	require.NoError(f, err)
	defer dir.Close()
	b := make([]byte, 1024)
	n, err := unix.Getdents(int(dir.Fd()), b)
	require.NoError(f, err)
	f.Add(b[:n])
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			name, rest := dirent(b)
			if name != nil && name[:len(name)+1][len(name)] != 0 {
				t.Errorf("no zero byte after %q", name)
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			b = rest
		}
	})
}

func TestSeesAll(t *testing.T) {
	for _, tt := range []struct {
		status string
		want   bool
	}{
		{"Name:\tx\nCapEff:\t000001ffffffffff\n", true},
		{"CapEff:\t0000000000080004\n", true},
		{"CapEff:\t0000000000080002\n", true},
		{"CapEff:\t0000000000080000\n", false},
		{"CapEff:\t0000000000000004\n", false},
		{"CapEff:\t0000000000000000\n", false},
		{"CapEff:\tzzz\n", false},
		{"", false},
	} {
		assert.Equal(t, tt.want, seesAll([]byte(tt.status)), tt.status)
	}
}

// fakeProc is a directory that looks like /proc.
func fakeProc(t *testing.T, files map[string]string) *procOwners {
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			require.NoError(t, os.Symlink(target, name))
		} else {
			require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		}
	}
	o := new(procOwners)
	require.NoError(t, o.open(dir))
	t.Cleanup(o.close)
	return o
}

func TestOwners(t *testing.T) {
	o := fakeProc(t, map[string]string{
		"1/fd/3":     "-> socket:[10]",
		"1/comm":     "init\n",
		"20/fd/0":    "-> /dev/null",
		"20/fd/4":    "-> socket:[11]",
		"20/fd/5":    "-> socket:[12]",
		"20/comm":    "line\nbreak\n",
		"20/exe":     "-> /opt/a b (deleted)",
		"20/cgroup":  "0::/docker/" + id64 + "\n",
		"self/fd/1":  "-> socket:[13]",
		"20x/fd/1":   "-> socket:[14]",
		"net/tcp":    "",
		"30/no-fd/1": "-> socket:[15]",
	})
	seen := map[string]bool{}
	o.walk(func(pid int32, inode uint32) bool {
		seen[fmt.Sprint(pid, " ", inode)] = true
		return true
	})
	assert.Equal(t, map[string]bool{"1 10": true, "20 11": true, "20 12": true}, seen)
	assert.False(t, o.denied)

	assert.Equal(t, Process{PID: 20, Comm: "line\nbreak", Exe: "/opt/a b", Container: id64}, o.process(20).Process)
	assert.Equal(t, Process{PID: 1, Comm: "init"}, o.process(1).Process)
	assert.Equal(t, Process{PID: 99}, o.process(99).Process)

	// Process 1 is known to hold connections now: it comes first, and the walk
	// stops there.
	o.process(20).gen, o.process(1).gen, o.process(99).gen = 1, 2, 2
	gone := o.process(99)
	assert.True(t, o.forget(2))
	assert.True(t, gone.gone)
	assert.Len(t, o.byPID, 2, "ended ones keep their name as long as they have connections")
	var order []int32
	o.walk(func(pid int32, _ uint32) bool {
		order = append(order, pid)
		return false
	})
	assert.Equal(t, []int32{1}, order)
}

// naiveOwners lists the sockets of all processes as a textbook would.
func naiveOwners(t *testing.T) map[uint32][]int {
	found := map[uint32][]int{}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	require.NoError(t, err)
	for _, link := range links {
		target, _ := os.Readlink(link)
		var inode uint32
		if n, _ := fmt.Sscanf(target, "socket:[%d]", &inode); n == 1 {
			pid, err := strconv.Atoi(strings.Split(link, "/")[2])
			require.NoError(t, err)
			found[inode] = append(found[inode], pid)
		}
	}
	return found
}

func TestWalkAgainstNaive(t *testing.T) {
	var fds []int
	for range 2000 { // more than one buffer of directory entries
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		fds = append(fds, fd)
	}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	var o procOwners
	require.NoError(t, o.open("/proc"))
	defer o.close()
	got, want := map[uint32]bool{}, map[uint32]bool{}
	o.walk(func(pid int32, inode uint32) bool {
		if int(pid) == os.Getpid() {
			got[inode] = true
		}
		return true
	})
	for inode, pids := range naiveOwners(t) {
		for _, pid := range pids {
			if pid == os.Getpid() {
				want[inode] = true
			}
		}
	}
	assert.GreaterOrEqual(t, len(got), 2000)
	assert.Equal(t, want, got)
}

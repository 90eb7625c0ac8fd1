//go:build amd64 || arm64 || arm || riscv64

package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test binary starts itself again for what gives its rights away.
const roleVar = "CONFINE_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

// An order is what a helper is to do.
type order struct {
	Keep    Keep
	Files   Files
	Folder  string // that may be written to
	Outside string // a folder that may not
	Secret  string // a file that may not be read
}

// A report is what it finds.
type report struct {
	Rights  Rights
	Missing string
	Threads []string // what differs between threads from the first
	PID     int
	Tries   map[string]string // errors; "" is none
}

func play(role string) error {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv("CONFINE_TEST_ORDER")), &o); err != nil {
		return err
	}
	// Threads of before and after.
	for range 4 {
		go func() {
			runtime.LockOSThread()
			time.Sleep(time.Hour)
		}()
	}
	time.Sleep(10 * time.Millisecond)
	var r report
	switch role {
	case "free":
		r.Rights = Own()
	case "process":
		r.Rights = Process(o.Keep)
	case "restart":
		os.Setenv(roleVar, "restarted")
		return Restart(o.Keep.Capabilities, o.Files, os.Environ())
	case "restarted":
		r.Missing = os.Getenv(Without)
		r.Rights = Own()
	}
	if r.Rights.Missing != nil {
		r.Missing = errors.Join(r.Rights.Missing...).Error()
	}
	r.Rights.Missing = nil
	r.PID = os.Getpid()
	r.Threads = threads()
	r.Tries = try(o)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// threads returns what of the rights of threads differs from those of the first.
func threads() (differ []string) {
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	first := ""
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var rights []string
		for _, line := range strings.Split(string(b), "\n") {
			for _, key := range []string{"Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"} {
				if strings.HasPrefix(line, key) {
					rights = append(rights, line)
				}
			}
		}
		all := strings.Join(rights, " ")
		if first == "" {
			first = all
		} else if all != first {
			differ = append(differ, all+" instead of "+first)
		}
	}
	return differ
}

// try does what somebody would who has taken the process over.
func try(o order) map[string]string {
	tries := map[string]string{}
	do := func(name string, f func() error) {
		tries[name] = ""
		if err := f(); err != nil {
			tries[name] = err.Error()
		}
	}
	call := func(name string, nr uintptr, args ...uintptr) {
		do(name, func() error {
			var a [6]uintptr
			copy(a[:], args)
			if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
				return errno
			}
			return nil
		})
	}
	do("read a secret", func() error { _, err := os.ReadFile(o.Secret); return err })
	for name, dir := range map[string]string{"in its folder": o.Folder, "outside": o.Outside} {
		do("write "+name, func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) })
		do("rename "+name, func() error { return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "newer")) })
		do("remove "+name, func() error { return os.Remove(filepath.Join(dir, "newer")) })
		do("mkdir "+name, func() error { return os.Mkdir(filepath.Join(dir, "folder"), 0o700) })
	}
	do("chmod outside", func() error { return os.Chmod(o.Secret, 0o600) })
	do("execute", func() error {
		_, err := exec.Command("/bin/true").CombinedOutput()
		return err
	})
	do("a user's file by root's shell", func() error { return exec.Command("/bin/sh", "-c", "cat "+o.Secret).Run() })
	do("kill its parent", func() error { return unix.Kill(os.Getppid(), 0) })
	do("raw socket", func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	do("listen", func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			l.Close()
		}
		return err
	})
	call("ptrace", unix.SYS_PTRACE, unix.PTRACE_PEEKDATA, 1)
	call("mount", unix.SYS_MOUNT, 0, 0, 0, 0, 0)
	call("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUTS)
	call("load a program for bpf", unix.SYS_BPF, unix.BPF_PROG_LOAD, 0, 0)
	call("list programs of bpf", unix.SYS_BPF, unix.BPF_PROG_GET_NEXT_ID, 0, 0)
	call("look into a map of bpf", unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM, 0, 0)
	call("clone3", unix.SYS_CLONE3, 0, 0)
	call("clone into a namespace", unix.SYS_CLONE, unix.CLONE_NEWUTS|unix.CLONE_THREAD)
	call("io_uring", unix.SYS_IO_URING_SETUP, 0, 0)
	call("set the time", unix.SYS_CLOCK_SETTIME, 99, 0)
	call("terminal", unix.SYS_IOCTL, 99, unix.TIOCSTI, 0)
	call("another ioctl", unix.SYS_IOCTL, 99, unix.TCGETS, 0)
	call("another kind of namespace", unix.SYS_SETNS, 99, unix.CLONE_NEWNS)
	do("a network namespace", func() error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			f, err := os.Open("/proc/thread-self/ns/net")
			if err == nil {
				err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
				f.Close()
			}
			done <- err
		}()
		return <-done
	})
	do("another's program", func() error { _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", os.Getppid())); return err })
	do("another's files", func() error {
		dir := fmt.Sprintf("/proc/%d/fd", os.Getppid())
		if _, err := os.ReadDir(dir); err != nil {
			return err
		}
		_, err := os.Readlink(dir + "/0")
		return err
	})
	return tries
}

func helper(t *testing.T, role string, o order) (r report) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are taken away")
	}
	b, err := json.Marshal(o)
	require.NoError(t, err)
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), roleVar+"="+role, "CONFINE_TEST_ORDER="+string(b))
	c.Stderr = os.Stderr
	out, err := c.Output()
	require.NoError(t, err, string(out))
	require.NoError(t, json.Unmarshal(out, &r), string(out))
	assert.Equal(t, c.Process.Pid, r.PID)
	return r
}

// places makes what an order names: one that root alone may read, and folders of root's.
func places(t *testing.T) (o order) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	o.Folder, o.Outside, o.Secret = filepath.Join(dir, "folder"), filepath.Join(dir, "outside"), filepath.Join(dir, "secret")
	require.NoError(t, os.Mkdir(o.Folder, 0o700))
	require.NoError(t, os.Mkdir(o.Outside, 0o755))
	require.NoError(t, os.WriteFile(o.Secret, []byte("secret"), 0o600))
	return o
}

// refusal says whether an error is one of want, "|" between them; "" is no error.
func refusal(t *testing.T, r report, name, want string) {
	t.Helper()
	got, tried := r.Tries[name]
	require.True(t, tried, name)
	if want == "" {
		assert.Empty(t, got, name)
		return
	}
	for _, w := range strings.Split(want, "|") {
		if strings.Contains(got, w) {
			return
		}
	}
	assert.Fail(t, name, "want %s, got %q", want, got)
}

const (
	eperm  = "operation not permitted"
	eacces = "permission denied|operation not permitted"
)

func TestProcess(t *testing.T) {
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_GETPID, 0, 0, 0); errno == syscall.ENOTSUP {
		t.Skip("built with cgo, a process keeps its rights: CGO_ENABLED=0 go test")
	}
	// What is refused below works for root, or fails for other reasons.
	free := helper(t, "free", places(t))
	for name, err := range free.Tries {
		assert.NotContains(t, err, eperm, name)
	}
	for _, name := range []string{"read a secret", "write outside", "execute", "raw socket", "unshare", "kill its parent"} {
		assert.Empty(t, free.Tries[name], name)
	}

	for _, tt := range []struct {
		name    string
		keep    Keep
		folder  bool
		refused map[string]string // besides those of all; "": it works
	}{
		{"follows", Keep{Capabilities: Following}, false, map[string]string{
			"write in its folder": eperm, "write outside": eperm, "mkdir outside": eperm, "execute": eperm, "kill its parent": eperm, "a network namespace": "",
			"look into a map of bpf": "invalid argument", "another's program": "", "another's files": eacces,
		}},
		{"polls", Keep{Capabilities: Polling}, false, map[string]string{
			"write in its folder": eperm, "write outside": eperm, "execute": eperm, "kill its parent": eperm, "a network namespace": eperm,
			"look into a map of bpf": eperm, "another's program": "", "another's files": "",
		}},
		{"has a folder", Keep{Capabilities: Polling}, true, map[string]string{
			"write in its folder": "", "rename in its folder": "", "remove in its folder": "", "mkdir in its folder": "", "write outside": eacces, "mkdir outside": eacces, "execute": eperm,
		}},
		{"starts programs", Keep{Capabilities: Polling, Programs: true}, false, map[string]string{
			"execute": "", "write outside": eperm, "another's files": "", "kill its parent": eperm,
		}},
		{"keeps nothing", Keep{}, false, map[string]string{"another's program": eacces, "another's files": eacces, "read a secret": eacces}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := places(t)
			o.Keep = tt.keep
			if tt.folder {
				o.Keep.Folders = []string{o.Folder}
			}
			r := helper(t, "process", o)
			if strings.Contains(r.Missing, errors.ErrUnsupported.Error()) && r.Rights.User == 0 {
				t.Skip("threads cannot be reached: ", r.Missing)
			}
			assert.Empty(t, r.Missing)
			assert.Equal(t, Rights{User: nobodyElse, Capabilities: tt.keep.Capabilities & Effective(), NoNewPrivs: true, Filtered: true}, r.Rights)
			assert.Empty(t, r.Threads)
			for _, name := range []string{"ptrace", "mount", "unshare", "load a program for bpf", "list programs of bpf", "clone into a namespace", "io_uring", "set the time",
				"terminal", "another kind of namespace", "raw socket", "chmod outside"} {
				refusal(t, r, name, eperm)
			}
			refusal(t, r, "clone3", "function not implemented")
			refusal(t, r, "another ioctl", "bad file descriptor")
			refusal(t, r, "listen", "")
			for name, want := range tt.refused {
				refusal(t, r, name, want)
			}
			if tt.keep.Capabilities&(1<<dacReadSearch) == 0 {
				refusal(t, r, "read a secret", eacces)
			}
		})
	}
}

// TestRestart: the same process, by its number, has root's rights no more, nor files but those
// it names.
func TestRestart(t *testing.T) {
	o := places(t)
	o.Keep.Capabilities = Serving
	read := filepath.Join(filepath.Dir(o.Folder), "readable")
	require.NoError(t, os.WriteFile(read, nil, 0o600))
	o.Files = Files{Read: []string{"/proc", "/bin", "/lib", "/lib64", "/usr", read, "/nonexistent"}, Write: []string{o.Folder, "/dev/null"}}
	r := helper(t, "restart", o)
	assert.Equal(t, Rights{User: 0, Capabilities: Serving & Effective(), NoNewPrivs: true}, r.Rights)
	assert.Empty(t, r.Threads)
	for name, want := range map[string]string{"unshare": eperm, "raw socket": eperm, "listen": "", "execute": "", "write in its folder": "", "rename in its folder": "", "mkdir in its folder": ""} {
		refusal(t, r, name, want)
	}
	if strings.Contains(r.Missing, "landlock") {
		t.Skip("the kernel has no Landlock: ", r.Missing)
	}
	assert.Empty(t, r.Missing)
	for _, name := range []string{"read a secret", "write outside", "mkdir outside", "another's program", "another's files"} {
		refusal(t, r, name, eacces)
	}
	refusal(t, r, "a user's file by root's shell", "exit status")
}

// TestStranger: what is started so is another user's, with those capabilities.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rights are taken away")
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), roleVar+"=free", "CONFINE_TEST_ORDER={}")
	c.Dir = "/"
	c.SysProcAttr = Stranger(Polling)
	c.Stderr = os.Stderr
	out, err := c.Output()
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(out, &r), string(out))
	assert.Equal(t, nobodyElse, r.Rights.User)
	assert.Equal(t, Set(Polling)&Effective(), r.Rights.Capabilities)
	assert.Empty(t, r.Tries["another's files"])
}

func TestHandOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose files are handed over")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	owner := func(name string) uint32 {
		info, err := os.Lstat(name)
		require.NoError(t, err)
		return info.Sys().(*syscall.Stat_t).Uid
	}
	file := func(name string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, nil, 0o600))
		return name
	}
	const mark = ".ends"
	elsewhere := file("elsewhere")
	own, unfinished := file("spool/000000000001-2-0.ends"), file("spool/000000000002-2-0.ends.1.new")
	spool := filepath.Join(dir, "spool")
	linked := filepath.Join(spool, "000000000003-2-0.ends")
	require.NoError(t, os.Link(elsewhere, linked))
	for range 2 { // the second time nothing is left to do
		require.NoError(t, handOver([]string{spool, filepath.Join(dir, "made")}, mark))
	}
	for _, name := range []string{spool, own, unfinished, filepath.Join(dir, "made")} {
		assert.EqualValues(t, nobodyElse, owner(name), name)
	}
	for _, name := range []string{elsewhere, linked, dir} {
		assert.Zero(t, owner(name), name)
	}

	// Somebody has named a folder of something else, such as /etc.
	for name, make := range map[string]func(name string) error{
		"passwd":   func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"folder":   func(name string) error { return os.Mkdir(name, 0o755) },
		"a.ends":   func(name string) error { return os.Symlink(elsewhere, name) },
		"b.ends":   func(name string) error { return os.Mkdir(name, 0o755) },
		"pipe.end": func(name string) error { return syscall.Mkfifo(name, 0o600) },
	} {
		theirs := filepath.Dir(file(name + " is there/000000000001-2-0.ends"))
		require.NoError(t, make(filepath.Join(theirs, name)))
		assert.ErrorContains(t, handOver([]string{theirs}, mark), fmt.Sprintf("is not for this program alone: %q is there too", name))
		for _, name := range []string{theirs, filepath.Join(theirs, name), filepath.Join(theirs, "000000000001-2-0.ends")} {
			assert.Zero(t, owner(name), name)
		}
	}

	closed := file("closed/spool/file.ends")
	require.NoError(t, os.Chmod(filepath.Join(dir, "closed"), 0o700))
	assert.ErrorContains(t, handOver([]string{filepath.Dir(closed)}, mark), "lets only root come to")
	assert.Zero(t, owner(closed))
	others := file("others/file.ends")
	require.NoError(t, os.Chown(others, 65534, 65534))
	assert.ErrorContains(t, handOver([]string{filepath.Dir(others)}, mark), "is another user's")
	assert.Error(t, handOver([]string{elsewhere}, mark), "a file")
}

func TestSetString(t *testing.T) {
	assert.Equal(t, "none", Set(0).String())
	assert.Equal(t, "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_PERFMON CAP_BPF", Set(Following).String())
	for c, name := range map[int]string{chown: "CHOWN", dacOverride: "DAC_OVERRIDE", dacReadSearch: "DAC_READ_SEARCH", netBindService: "NET_BIND_SERVICE"} {
		assert.Equal(t, "CAP_"+name, Set(1<<c).String())
	}
	assert.Equal(t, [...]int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN, unix.CAP_PERFMON, unix.CAP_BPF},
		[...]int{chown, dacOverride, dacReadSearch, netBindService, netAdmin, sysPtrace, sysAdmin, perfmon, bpf})
}

// run is what the kernel does with a program, see bpf(4) of BSD: stupid, and for the four
// instructions that there are.
func (p program) run(arch, call uint32, args ...uint64) uint32 {
	var data [64]byte
	*(*uint32)(unsafe.Pointer(&data[0])), *(*uint32)(unsafe.Pointer(&data[4])) = call, arch
	for i, a := range args {
		*(*uint64)(unsafe.Pointer(&data[16+8*i])) = a
	}
	var acc uint32
	for i := 0; i < len(p); i++ {
		in := p[i]
		yes := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = *(*uint32)(unsafe.Pointer(&data[in.K]))
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = acc == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = acc >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			yes = acc&in.K != 0
		default:
			panic(in)
		}
		if yes {
			i += int(in.Jt)
		} else {
			i += int(in.Jf)
		}
	}
	panic("it does not end")
}

// TestAssemble: each call has the answer that is meant for it, whatever else is asked.
func TestAssemble(t *testing.T) {
	follows, serves := assemble(Keep{}, Following), assemble(Keep{Folders: []string{"/"}, Programs: true}, Serving)
	const read = unix.SYS_READ
	for _, tt := range []struct {
		name              string
		call              uintptr
		args              []uint64
		follower, servant uint32
	}{
		{"read", read, nil, allow, allow},
		{"ptrace", unix.SYS_PTRACE, nil, refused, refused},
		{"the last of never", unix.SYS_IO_URING_REGISTER, nil, refused, refused},
		{"clone3", unix.SYS_CLONE3, nil, unknown, unknown},
		{"a thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD}, allow, allow},
		{"a thread in a namespace", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_NEWUTS}, refused, refused},
		{"a process", unix.SYS_CLONE, []uint64{unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}, refused, allow},
		{"a namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, refused, refused},
		{"execve", unix.SYS_EXECVE, nil, refused, allow},
		{"a network namespace", unix.SYS_SETNS, []uint64{3, unix.CLONE_NEWNET}, allow, refused},
		{"any namespace", unix.SYS_SETNS, []uint64{3, 0}, refused, refused},
		{"bpf lookup", unix.SYS_BPF, []uint64{unix.BPF_MAP_LOOKUP_ELEM}, allow, refused},
		{"bpf iterate", unix.SYS_BPF, []uint64{unix.BPF_ITER_CREATE}, allow, refused},
		{"bpf load", unix.SYS_BPF, []uint64{unix.BPF_PROG_LOAD}, refused, refused},
		{"bpf attach", unix.SYS_BPF, []uint64{unix.BPF_PROG_ATTACH}, refused, refused},
		{"TCP", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, allow, allow},
		{"a service of this machine", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, refused, refused},
		{"netlink", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK}, allow, allow},
		{"packets", unix.SYS_SOCKET, []uint64{unix.AF_PACKET}, refused, refused},
		{"open to read", unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDONLY | unix.O_CLOEXEC | unix.O_DIRECTORY}, allow, allow},
		{"open to write", unix.SYS_OPENAT, []uint64{0, 0, unix.O_WRONLY}, refused, allow},
		{"open to make", unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT}, refused, allow},
		{"openat2", unix.SYS_OPENAT2, nil, unknown, unknown},
		{"rename", unix.SYS_RENAMEAT2, nil, refused, allow},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, refused, refused},
		{"TIOCSTI with high bits", unix.SYS_IOCTL, []uint64{0, 1<<32 | unix.TIOCSTI}, refused, refused},
		{"TIOCLINUX", unix.SYS_IOCTL, []uint64{0, tiocLinux}, refused, refused},
		{"TCGETS", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, allow, allow},
	} {
		assert.Equal(t, tt.follower, follows.run(arch, uint32(tt.call), tt.args...), tt.name)
		assert.Equal(t, tt.servant, serves.run(arch, uint32(tt.call), tt.args...), tt.name)
		assert.Equal(t, refused, follows.run(arch+1, uint32(tt.call), tt.args...), "%s by another table", tt.name)
	}
	window := assemble(Keep{Folders: []string{"/"}, Programs: true, Services: true}, Serving)
	assert.Equal(t, allow, window.run(arch, uint32(unix.SYS_SOCKET), unix.AF_UNIX))
	assert.Equal(t, refused, window.run(arch, uint32(unix.SYS_SOCKET), unix.AF_VSOCK))
	if otherCalls != 0 {
		assert.Equal(t, refused, follows.run(arch, otherCalls|read))
	}
	for _, p := range []program{follows, serves} {
		assert.Less(t, len(p), 4096, "the kernel takes no more")
	}
}

func FuzzParseStatus(f *testing.F) {
	b, _ := os.ReadFile("/proc/self/status")
	f.Add(b)
	f.Add([]byte("CapEff:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\n"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStatus(b, Rights{}) })
}

func TestParseStatus(t *testing.T) {
	assert.Equal(t, Rights{User: 7, Capabilities: 1 << bpf, NoNewPrivs: true, Filtered: true},
		parseStatus([]byte("Name:\tx\nCapInh:\t1\nCapEff:\t0000008000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"), Rights{User: 7}))
	assert.Equal(t, Rights{}, parseStatus([]byte("CapEff:\tnonsense\nNoNewPrivs\nSeccomp:\t1\n:\n"), Rights{}))
}

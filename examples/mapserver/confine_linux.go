package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/connmapgo/connmap/internal/confine"
	"github.com/connmapgo/connmap/internal/peernames"
)

// collectorVar is the variable of the environment that names the link to the collector and
// its process.
const collectorVar = "CONNMAP_COLLECTOR"

// dropRights takes root's rights from a map server that was started as root, by starting it
// again. It needs none of them, and reads data of strangers. Its collector needs some, and runs
// in a process of its own. If a step fails the server goes on with the rights it has.
func dropRights(args []string) {
	if without, is := os.LookupEnv(confine.Without); is {
		os.Unsetenv(confine.Without)
		inheritedCollector = inheritCollector()
		cfg, err := parse(args, io.Discard)
		keep := confine.Keep{Capabilities: confine.Serving, Folders: []string{"/"}, Programs: true, Services: err == nil && cfg.hasWindow()} // Restart has restricted the folders
		if err := confine.Filter(keep); err != nil {
			without = strings.TrimPrefix(without+"; system calls are not refused: "+err.Error(), "; ")
		}
		notConfined = without
		return
	}
	if !confine.Root() || len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return // another command, which ends at once
	}
	cfg, err := parse(args, io.Discard)
	if err != nil || cfg.version {
		return // run says what is wrong
	}
	files := cfg.files()
	var collector *remote
	env := os.Environ()
	if !cfg.noLocal && cfg.demo == 0 && cfg.question.sql == "" {
		link, pid, err := startCollector(cfg.loopback, cfg.names != peernames.Off)
		if err != nil {
			notConfined = "the collector cannot be started in a process of its own: " + err.Error()
			return
		}
		env = append(env, fmt.Sprintf("%s=%d:%d", collectorVar, link, pid))
		collector = &remote{link: os.NewFile(uintptr(link), "link to the collector"), pid: pid}
	}
	keep := confine.Set(confine.Serving)
	if info, err := os.Stat(cfg.history); err == nil && info.Sys().(*syscall.Stat_t).Uid != 0 {
		keep |= confine.Giving // else its owner could no longer record into it
	}
	notConfined = "root's rights are kept: " + confine.Restart(keep, files, env).Error()
	if collector != nil {
		collector.stop(nil)
	}
}

// hasWindow reports whether a window may be opened, which needs a display and sound. Without
// one the server is refused services such as D-Bus, which do whatever root asks for.
func (c config) hasWindow() bool {
	return !c.headless && c.screenshot == "" && c.question.sql == "" && os.Getenv("DISPLAY") != ""
}

// startCollector starts the collector's process, as a user of its own with the rights that it
// needs.
func startCollector(loopback, names bool) (link, pid int, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	theirs := os.NewFile(uintptr(ends[1]), "link")
	defer theirs.Close()
	// Not by its name: the other user may not be able to reach its folder.
	c := exec.Command("/proc/self/exe", collectCommand)
	if loopback {
		c.Args = append(c.Args, "-loopback")
	}
	if names {
		c.Args = append(c.Args, "-names")
	}
	c.Args[0] = os.Args[0]
	c.Env = []string{"PATH=" + os.Getenv("PATH")}
	c.Dir = "/"
	c.Stderr = os.Stderr
	c.ExtraFiles = []*os.File{theirs}
	c.SysProcAttr = confine.Stranger(confine.Following | confine.Polling)
	c.SysProcAttr.Setpgid = true // Ctrl+C ends it by way of this process
	if err := c.Start(); err != nil {
		unix.Close(ends[0])
		return 0, 0, err
	}
	// It stays open when this program executes itself.
	if _, err := unix.FcntlInt(uintptr(ends[0]), unix.F_SETFD, 0); err != nil {
		unix.Close(ends[0])
		return 0, 0, err
	}
	return ends[0], c.Process.Pid, nil
}

// inheritCollector returns the collector that this process started before it executed itself.
func inheritCollector() *remote {
	link, pid, ok := strings.Cut(os.Getenv(collectorVar), ":")
	os.Unsetenv(collectorVar)
	fd, err1 := strconv.Atoi(link)
	n, err2 := strconv.Atoi(pid)
	if !ok || err1 != nil || err2 != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	unix.SetNonblock(fd, true) // Close ends a Read
	return &remote{link: os.NewFile(uintptr(fd), "link to the collector"), pid: n}
}

// files returns the files that a map server reads and writes.
func (c config) files() confine.Files {
	home := c.homeDir
	f := confine.Files{
		Read: []string{
			// The system: libraries, what graphics, sound and time zones need, names of hosts.
			"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/proc", "/sys", "/run",
			"/etc/alsa", "/etc/asound.conf", "/etc/drirc", "/etc/fonts", "/etc/glvnd", "/etc/vulkan", "/etc/OpenCL", "/etc/pulse", "/etc/pipewire",
			"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/ld-musl-x86_64.path", "/etc/localtime", "/etc/timezone",
			"/etc/hosts", "/etc/host.conf", "/etc/hostname", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
			"/etc/passwd", "/etc/group", "/etc/machine-id", "/etc/os-release", "/etc/X11", "/etc/xdg",
			"/dev/urandom", "/dev/random", "/dev/zero",
			os.Getenv("XAUTHORITY"), filepath.Join(home, ".Xauthority"), filepath.Join(home, ".drirc"), filepath.Join(home, ".asoundrc"),
			filepath.Join(home, ".pulse-cookie"), filepath.Join(home, ".config/pulse"),
		},
		Write: []string{
			c.configDir, c.dataDir, c.cacheDir, os.TempDir(), "/var/tmp",
			"/dev/null", "/dev/tty", "/dev/dri", "/dev/snd", "/dev/shm", "/dev/udmabuf",
			filepath.Join(home, ".cache/mesa_shader_cache"), filepath.Join(home, ".cache/mesa_shader_cache_db"),
		},
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		f.Write = append(f.Write, dir)
	}
	nvidia, _ := filepath.Glob("/dev/nvidia*")
	f.Write = append(f.Write, nvidia...)
	f.Read = append(f.Read, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	// The folder, since a replaced file is another one with the same name.
	rules, _ := c.findRules()
	for _, name := range slices.Concat(c.geo, c.asn, []string{rules, c.passwordFile}) {
		if name != "" {
			f.Read = append(f.Read, folderOf(name))
		}
	}
	for _, word := range strings.Fields(c.sound) {
		f.Read = append(f.Read, strings.Trim(word, `"'`))
	}
	for _, name := range []string{c.history, c.screenshot} {
		if name != "" {
			f.Write = append(f.Write, folderOf(name))
		}
	}
	// Rules can only name folders that exist.
	for _, dir := range []string{c.configDir, c.dataDir, c.cacheDir} {
		os.MkdirAll(dir, 0o700)
	}
	if c.history != "" && c.question.sql == "" {
		os.MkdirAll(filepath.Dir(c.history), 0o700)
	}
	return f
}

// folderOf returns the folder of a file, after following links.
func folderOf(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	return filepath.Dir(name)
}

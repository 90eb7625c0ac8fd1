package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// The wall clock of a machine that is in use cannot jump, and time namespaces do not have
// it. So programs are compiled with a time.Now that adds as many nanoseconds as a file says,
// which the test changes while they run; nothing else in them differs.
const (
	nowBegins = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n"
	nowJumps  = "\tsec, nsec, mono := runtimeNow()\n\tsec, nsec = ahead(sec, nsec)\n\tif mono == 0 {\n"
	jumping   = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var aheadBy = func() *int64 {
	name, _ := syscall.Getenv("CONNMAP_AHEAD")
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return new(int64)
	}
	defer syscall.Close(fd)
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}()

func ahead(sec int64, nsec int32) (int64, int32) {
	n := int64(nsec) + atomic.LoadInt64(aheadBy)
	sec, n = sec+n/1e9, n%1e9
	if n < 0 {
		sec, n = sec-1, n+1e9
	}
	return sec, int32(n)
}
`
)

// setClocks gives server and agent clocks of their own.
func (tr *trial) setClocks() {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(tr.t, err)
	folder := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	b, err := os.ReadFile(filepath.Join(folder, "time.go"))
	require.NoError(tr.t, err)
	if strings.Count(string(b), nowBegins) != 1 {
		tr.say("clocks do not jump: time.Now of this Go is another one")
		return
	}
	replace := make(map[string]string)
	for name, text := range map[string]string{"time.go": strings.Replace(string(b), nowBegins, nowJumps, 1), "jump.go": jumping} {
		replace[filepath.Join(folder, name)] = filepath.Join(tr.dir, name)
		require.NoError(tr.t, os.WriteFile(filepath.Join(tr.dir, name), []byte(text), 0o600))
	}
	b, err = json.Marshal(map[string]any{"Replace": replace})
	require.NoError(tr.t, err)
	overlay := filepath.Join(tr.dir, "overlay.json")
	require.NoError(tr.t, os.WriteFile(overlay, b, 0o600))
	tr.clocks, tr.build = true, []string{"-overlay", overlay}
	for _, name := range []string{"agent", "server"} {
		tr.set(name, 0)
	}
}

// set has the clock of server or agent be ahead.
func (tr *trial) set(name string, ahead time.Duration) {
	f, err := os.OpenFile(filepath.Join(tr.dir, name+".clock"), os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(tr.t, err)
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead)), 0)
	require.NoError(tr.t, err)
}

// jump has the clock of server or agent jump, forth or back, by seconds to days, sometimes
// to when machines without a clock begin or old counters end.
func (tr *trial) jump(name string) {
	if !tr.clocks {
		return
	}
	far := []time.Duration{8 * time.Second, 2 * time.Minute, 3 * time.Hour, 5 * 24 * time.Hour}[tr.random.IntN(4)]
	ahead := time.Duration(tr.random.Int64N(int64(2*far))) - far
	switch tr.random.IntN(12) {
	case 0:
		ahead = time.Until(time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC))
	case 1:
		ahead = time.Until(time.Date(2038, 1, 19, 3, 14, 0, 0, time.UTC))
	case 2, 3:
		ahead = 0
	}
	tr.say("the clock of %s is ahead by %v", name, ahead)
	tr.set(name, ahead)
}

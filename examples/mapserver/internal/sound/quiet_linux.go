package sound

import "github.com/ebitengine/purego"

// quiet keeps ALSA from writing on the terminal about each device that it could
// not open.
func quiet() {
	alsa, err := purego.Dlopen("libasound.so.2", purego.RTLD_LAZY|purego.RTLD_GLOBAL)
	if err != nil {
		return
	}
	// Any function of C will do that leaves its arguments alone.
	ignore, err := purego.Dlsym(alsa, "getpid")
	if err != nil {
		return
	}
	// The latter is since ALSA 1.2.15, which no longer writes with the former.
	for _, name := range []string{"snd_lib_error_set_handler", "snd_lib_log_set_handler"} {
		if set, err := purego.Dlsym(alsa, name); err == nil {
			purego.SyscallN(set, ignore)
		}
	}
}

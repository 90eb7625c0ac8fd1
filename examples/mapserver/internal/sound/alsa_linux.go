package sound

import "github.com/ebitengine/purego"

// silenceALSA keeps ALSA from printing an error for each device that it cannot open.
func silenceALSA() {
	alsa, err := purego.Dlopen("libasound.so.2", purego.RTLD_LAZY|purego.RTLD_GLOBAL)
	if err != nil {
		return
	}
	// The error handler: any C function that ignores its arguments.
	ignore, err := purego.Dlsym(alsa, "getpid")
	if err != nil {
		return
	}
	// ALSA 1.2.15 and later use the second one.
	for _, name := range []string{"snd_lib_error_set_handler", "snd_lib_log_set_handler"} {
		if set, err := purego.Dlsym(alsa, name); err == nil {
			purego.SyscallN(set, ignore)
		}
	}
}

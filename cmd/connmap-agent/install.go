package main

import (
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connmapgo/connmap/internal/peernames"
	"github.com/connmapgo/connmap/internal/temp"
)

// An installer installs the agent as a service of this system, or removes it. The files
// service_*.go have the paths of the service and the commands that start it.
type installer struct {
	root           string // folder of another system; empty: this one
	dryRun         bool
	host, name     string
	names          peernames.Mode
	program        []byte
	secret         []byte // the token or the password
	cert           []byte // the server's certificate, if the secret is a password
	stdout, stderr io.Writer
}

// install installs this machine's agent as a service.
func install(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	in := installer{stdout: stdout, stderr: stderr}
	f := flag.NewFlagSet("connmap-agent install", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&in.dryRun, "dry-run", false, "print what would be done, and change nothing")
	if installsElsewhere {
		f.StringVar(&in.root, "root", "", "install into the `folder` of another system, such as an image, which then starts the agent when it boots (default this system)")
	}
	f.StringVar(&in.name, "name", "", "`name` of this machine on the map (default its host name)")
	f.TextVar(&in.names, "names", peernames.Full, "names of peers: `full`, domain or off, as without install")
	var o options
	o.secretFlags(f)
	f.Usage = func() {
		fmt.Fprintf(stderr, `connmap-agent install installs the agent as a service that %s:

  connmap-agent install HOST[:PORT] -       ask for the token that "mapserver token" prints,
                                            or read it from standard input
  connmap-agent install -token-file FILE HOST[:PORT]
                                            read the token from a file
  connmap-agent install HOST[:PORT] TOKEN   take a token that other users can see
  connmap-agent install -password-file FILE -cert server-cert.pem HOST[:PORT]
                                            join with a password, if the map server allows it
  connmap-agent uninstall                   stop and remove the service

%s

`, serviceStarter, installHelp())
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w; connmap-agent install -h lists the flags", err)
	}
	in.host = f.Arg(0)
	o.takeToken(f.Arg(1))
	// Both are written into a unit or a command line.
	const special = " \t\n\r\"'\\%$;"
	switch {
	case f.NArg() < 1:
		return errors.New("no server named: connmap-agent install HOST - asks for the token that mapserver token prints; put flags before HOST")
	case f.NArg() > 2:
		return errors.New(tooManyWords)
	case isToken(in.host):
		return errors.New(wrongOrder)
	case strings.ContainsAny(in.host, special): // not in the message: it may be a password
		return errors.New("HOST must be an address or a name, with or without a port, without spaces, quotes or any of \\%$;")
	case strings.ContainsAny(in.name, special):
		return fmt.Errorf("-name: %q must not have spaces, quotes or any of \\%%$;", in.name)
	}
	if _, err := o.readToken(ctx, stderr); err != nil {
		return err
	}
	in.secret = []byte(o.token + "\n")
	if o.server != nil {
		in.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.server.Raw})
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if in.program, err = os.ReadFile(self); err != nil {
		return err
	}
	return in.install(ctx)
}

// uninstall stops and removes the service. The key of this machine and its spool stay.
func uninstall(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	in := installer{stdout: stdout, stderr: stderr}
	f := flag.NewFlagSet("connmap-agent uninstall", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&in.dryRun, "dry-run", false, "print what would be done, and change nothing")
	f.Usage = func() {
		fmt.Fprint(stderr, "connmap-agent uninstall stops the service that connmap-agent install has made, and removes its\nfiles. The key of this machine stays, so that the server recognises it if it is installed again.\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w; connmap-agent uninstall -h lists the flags", err)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: uninstall takes none", f.Arg(0))
	}
	return in.uninstall(ctx)
}

// A file is a file that install writes.
type file struct {
	name, desc string // desc describes the content in the output; empty: the output shows data
	mode       os.FileMode
	data       []byte
}

// files returns the files that the service has on every system.
func (in *installer) files() []file {
	files := []file{{programFile, "this program", 0o755, in.program}, {tokenFile, "the token", 0o600, in.secret}}
	if in.cert != nil {
		files[1].desc = "the password"
		files = append(files, file{serverFile, "the map server's certificate", 0o600, in.cert})
	}
	return files
}

// agentArgs returns the arguments of an agent that is started without environment variables,
// and that keeps its state in a folder.
func (in *installer) agentArgs(state string) []string {
	args := []string{"-token-file", tokenFile, "-key", filepath.Join(state, "agent-key.pem"), "-spool", filepath.Join(state, "spool")}
	if in.cert != nil {
		args = append(args, "-cert", serverFile)
	}
	return append(append(args, in.flags()...), "--", in.host)
}

// flags returns those of the agent that install was given.
func (in *installer) flags() (flags []string) {
	if in.name != "" {
		flags = append(flags, "-name", in.name)
	}
	if text, _ := in.names.MarshalText(); in.names != peernames.Full {
		flags = append(flags, "-names", string(text))
	}
	return flags
}

// write writes files, and prints what it does.
func (in *installer) write(files []file) error {
	for _, file := range files {
		name := filepath.Join(in.root, file.name)
		fmt.Fprintf(in.stdout, "write %s (mode %04o)", name, file.mode)
		if file.desc != "" {
			fmt.Fprintf(in.stdout, ": %s\n", file.desc)
		} else {
			fmt.Fprintf(in.stdout, ":\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(string(file.data)), "\n", "\n    "))
		}
		if in.dryRun {
			continue
		}
		var err error
		if in.root != "" {
			err = writeIn(in.root, file.name, file.mode, file.data)
		} else {
			err = writeFile(name, file.mode, file.data)
		}
		if err != nil {
			if errors.Is(err, os.ErrPermission) {
				err = fmt.Errorf("%w; install as %s, or see what it would do with -dry-run", err, whoInstalls)
			}
			return err
		}
	}
	return nil
}

// remove removes the files that exist, and prints what it does.
func (in *installer) remove(names ...string) error {
	for _, name := range names {
		if !exists(name) {
			continue
		}
		fmt.Fprintln(in.stdout, "remove", name)
		if in.dryRun {
			continue
		}
		if err := os.Remove(name); err != nil {
			if errors.Is(err, os.ErrPermission) {
				err = fmt.Errorf("%w; uninstall as %s", err, whoInstalls)
			}
			return err
		}
	}
	return nil
}

// run runs a command, and prints it.
func (in *installer) run(ctx context.Context, command ...string) error {
	fmt.Fprintln(in.stdout, "run", strings.Join(command, " "))
	if in.dryRun {
		return nil
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdout, c.Stderr = in.stdout, in.stderr
	c.Env = withoutSecrets(os.Environ())
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return nil
}

// withoutSecrets returns env without the variables that may hold secrets, for other programs.
func withoutSecrets(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "CONNMAP_") })
}

// writeFile replaces a file at once: a running program cannot be overwritten.
func writeFile(name string, mode os.FileMode, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return temp.Write(name, mode, data)
}

// writeIn replaces a file of the system in a folder. It follows no link that leads out of the
// folder, such as an absolute one, which would lead into this system.
func writeIn(folder, name string, mode os.FileMode, data []byte) error {
	return replaceIn(folder, name, func(root *os.Root, name string) error {
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	})
}

// replaceIn replaces a file in a folder by the one that make makes.
func replaceIn(folder, name string, make func(root *os.Root, name string) error) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	name = strings.TrimPrefix(name, "/")
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	fresh := name + ".new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err = make(root, fresh); err == nil {
		err = root.Rename(fresh, name)
	}
	if err != nil {
		root.Remove(fresh)
	}
	return err
}

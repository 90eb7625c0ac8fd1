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
	"strings"

	"github.com/connmapgo/connmap/internal/temp"
)

// Where install puts things.
const (
	programFile = "/usr/local/bin/connmap-agent"
	tokenFile   = "/etc/connmap/agent.token"
	serverFile  = "/etc/connmap/server-cert.pem"
	unitFile    = "/etc/systemd/system/connmap-agent.service"
	// What systemctl enable makes, for a system that is not running.
	wantsFile = "/etc/systemd/system/multi-user.target.wants/connmap-agent.service"
)

// unit is the service: a user of its own, no more rights than the agent needs, and
// nothing of the system that it could change. The token, or the password and the server's
// certificate, are handed over by systemd, since that user could not read them.
const unit = `[Unit]
Description=connmap agent: reports where network connections go
Documentation=https://github.com/connmapgo/connmap
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=` + programFile + ` -token-file %%d/token%s -- %s
LoadCredential=token:` + tokenFile + `
%sRestart=always
RestartSec=5
DynamicUser=yes
# Holds the key that this machine makes for itself, and what the server was not told yet.
StateDirectory=connmap-agent
# To follow the kernel's sockets by its programs, and to ask it for all sockets.
AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN
CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_NET_ADMIN
LimitMEMLOCK=infinity
MemoryMax=128M
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service bpf perf_event_open
UMask=0077

[Install]
WantedBy=multi-user.target
`

// install makes this machine's agent a service of systemd.
func install(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("connmap-agent install", flag.ContinueOnError)
	f.SetOutput(stderr)
	dryRun := f.Bool("dry-run", false, "show what would be done, and do nothing")
	root := f.String("root", "", "`folder` of another system to install into, such as an image, which starts the agent when it boots (default this system)")
	name := f.String("name", "", "`name` of this machine on the map (default its host name)")
	var o options
	o.secretFlags(f)
	f.Usage = func() {
		fmt.Fprintf(stderr, `connmap-agent install makes the agent a service that systemd starts, as root:

  connmap-agent install HOST[:PORT] TOKEN   the two words that the map server prints
  connmap-agent install -password-file FILE -cert server-cert.pem HOST[:PORT]
                                            where it lets in by password

It copies this program to %s, writes the token or the password, for
root alone, to %s and the unit to
%s, and starts it. A certificate goes to
%s, for root alone. The service has a user of its own and three
capabilities, not root's rights.

`, programFile, tokenFile, unitFile, serverFile)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w; connmap-agent install -h lists the flags", err)
	}
	host := f.Arg(0)
	o.token = f.Arg(1)
	switch {
	case f.NArg() < 1 || f.NArg() > 2:
		return errors.New("want HOST and TOKEN, as the map server prints them: connmap-agent install HOST TOKEN; flags stand before them")
	// They become words of a unit.
	case strings.ContainsAny(host+*name, " \t\n\r\"'\\%$;"):
		return fmt.Errorf("%q and %q must be plain words", host, *name)
	}
	if _, err := o.readToken(ctx, stderr); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	type file struct {
		name, shown string
		mode        os.FileMode
		data        []byte
	}
	files := []file{{programFile, "this program", 0o755, program}, {tokenFile, "the token", 0o600, []byte(o.token + "\n")}}
	flags, credential := "", ""
	if o.server != nil {
		files[1].shown = "the password"
		files = append(files, file{serverFile, "the map server's certificate", 0o600, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.server.Raw})})
		flags, credential = " -cert %d/cert", "LoadCredential=cert:"+serverFile+"\n"
	}
	if *name != "" {
		flags += " -name " + *name
	}
	files = append(files, file{unitFile, "", 0o644, fmt.Appendf(nil, unit, flags, host, credential)})
	for _, file := range files {
		name := filepath.Join(*root, file.name)
		fmt.Fprintf(stdout, "write %s (mode %04o)", name, file.mode)
		if file.shown != "" {
			fmt.Fprintf(stdout, ": %s\n", file.shown)
		} else {
			fmt.Fprintf(stdout, ":\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(string(file.data)), "\n", "\n    "))
		}
		if *dryRun {
			continue
		}
		if err := writeFile(name, file.mode, file.data); err != nil {
			if errors.Is(err, os.ErrPermission) {
				err = fmt.Errorf("%w; install as root, or see what it would do with -dry-run", err)
			}
			return err
		}
	}
	if *root != "" {
		link := filepath.Join(*root, wantsFile)
		fmt.Fprintf(stdout, "link %s to %s\n", link, unitFile)
		if !*dryRun {
			if err := replaceLink(link, unitFile); err != nil {
				return err
			}
		}
		fmt.Fprintf(stdout, "The system in %s starts the agent when it boots, and makes a key of its own then. Nothing is started now.\n", *root)
		return nil
	}
	for _, command := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "enable", "connmap-agent"}, {"systemctl", "restart", "connmap-agent"}} {
		fmt.Fprintln(stdout, "run", strings.Join(command, " "))
		if *dryRun {
			continue
		}
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Stdout, c.Stderr = stdout, stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w; the files are written, start %s by what this system has instead of systemd", strings.Join(command, " "), err, programFile)
		}
	}
	return nil
}

// replaceLink makes a symbolic link, in place of an older one.
func replaceLink(name, to string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(to, name)
}

// writeFile replaces a file in one go: a running program cannot be written over.
func writeFile(name string, mode os.FileMode, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return temp.Write(name, mode, data)
}

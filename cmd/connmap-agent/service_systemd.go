//go:build !windows && !darwin

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Where install puts files.
const (
	programFile = "/usr/local/bin/connmap-agent"
	tokenFile   = "/etc/connmap/agent.token"
	serverFile  = "/etc/connmap/server-cert.pem"
	stateFolder = "/var/lib/private/connmap-agent" // of the dynamic user; uninstall keeps it
	unitFile    = "/etc/systemd/system/connmap-agent.service"
	// The link that systemctl enable makes, for a system that is not running.
	wantsFile = "/etc/systemd/system/multi-user.target.wants/connmap-agent.service"
)

const (
	serviceStarter    = "systemd starts, as root"
	whoInstalls       = "root"
	installsElsewhere = true
)

func installHelp() string {
	return fmt.Sprintf(`It copies this program to %s, and starts it. The token or the
	password goes to %s, and a certificate to
	%s, both for root alone. The unit is
	%s. The service has a user of its own
	and three capabilities, not root's rights.`, programFile, tokenFile, serverFile, unitFile)
}

// unit is the service's unit. It has a user of its own, no more rights than the agent needs,
// and cannot change the system. It gets the token, or the password and the server's
// certificate, from systemd, since that user could not read them.
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
LimitCORE=0
DynamicUser=yes
# Holds this machine's key, and close events that the server has not acknowledged.
StateDirectory=connmap-agent
# The agent loads programs into the kernel, and lists all sockets.
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

// service runs the agent. systemd needs nothing else.
func service(ctx context.Context, args []string, stderr io.Writer, agent func(ctx context.Context, args []string, stderr io.Writer) error) error {
	return agent(ctx, args, stderr)
}

func (in *installer) install(ctx context.Context) error {
	flags, credential := "", ""
	if in.cert != nil {
		flags, credential = " -cert %d/cert", "LoadCredential=cert:"+serverFile+"\n"
	}
	for _, f := range in.flags() {
		flags += " " + f
	}
	if err := in.write(append(in.files(), file{unitFile, "", 0o644, fmt.Appendf(nil, unit, flags, in.host, credential)})); err != nil {
		return err
	}
	if in.root != "" {
		link := filepath.Join(in.root, wantsFile)
		fmt.Fprintf(in.stdout, "link %s to %s\n", link, unitFile)
		if !in.dryRun {
			if err := replaceIn(in.root, wantsFile, func(root *os.Root, name string) error { return root.Symlink(unitFile, name) }); err != nil {
				return err
			}
		}
		fmt.Fprintf(in.stdout, "The system in %s starts the agent when it boots; the agent then creates its own key. Nothing is started now.\n", in.root)
		return nil
	}
	for _, command := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "enable", "connmap-agent"}, {"systemctl", "restart", "connmap-agent"}} {
		if err := in.run(ctx, command...); err != nil {
			return fmt.Errorf("%w; the files are written: start %s with this system's own service manager", err, programFile)
		}
	}
	return nil
}

func (in *installer) uninstall(ctx context.Context) error {
	if exists(unitFile) {
		// If systemd does not run, the service does not run either.
		if err := in.run(ctx, "systemctl", "disable", "--now", "connmap-agent"); err != nil {
			fmt.Fprintln(in.stderr, "connmap-agent:", err)
		}
	}
	if err := in.remove(wantsFile, unitFile, tokenFile, serverFile, programFile); err != nil {
		return err
	}
	fmt.Fprintf(in.stdout, "The key of this machine, if it had one, stays in %s.\n", stateFolder)
	return nil
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Where install puts files. Only root may write to the folder of the program; /usr/local/bin may
// belong to a user.
const (
	programFile = "/Library/PrivilegedHelperTools/connmap-agent"
	tokenFile   = "/etc/connmap/agent.token"
	serverFile  = "/etc/connmap/server-cert.pem"
	plistFile   = "/Library/LaunchDaemons/" + launchdLabel + ".plist"
	stateFolder = "/var/db/connmap-agent" // uninstall keeps it
	logFile     = "/var/log/connmap-agent.log"
	maxLog      = 1 << 20 // bytes, checked when the agent starts
)

const (
	serviceStarter    = "launchd starts, as root"
	whoInstalls       = "root"
	installsElsewhere = false
)

func installHelp() string {
	return fmt.Sprintf(`It copies this program to %s, and starts it.
	The token or the password goes to %s, for root alone, and a
	certificate to %s. The property list is
	%s. The service runs as root, keeps its key in
	%s and appends warnings and errors to
	%s. This is experimental.`, programFile, tokenFile, serverFile, plistFile, stateFolder, logFile)
}

// service runs the agent. First it empties a large log: an agent whose token is wrong adds a
// line each time that launchd starts it.
func service(ctx context.Context, args []string, stderr io.Writer, agent func(ctx context.Context, args []string, stderr io.Writer) error) error {
	if log, err := os.Stat(logFile); err == nil && log.Size() > maxLog {
		if ours, err := os.Stderr.Stat(); err == nil && os.SameFile(ours, log) {
			os.Stderr.Truncate(0)
		}
	}
	return agent(ctx, args, stderr)
}

func (in *installer) install(ctx context.Context) error {
	plist := launchdPlist(logFile, append([]string{programFile}, in.agentArgs(stateFolder)...)...)
	if err := in.write(append(in.files(), file{plistFile, "", 0o644, plist})); err != nil {
		return err
	}
	if !in.dryRun {
		if err := os.MkdirAll(stateFolder, 0o700); err != nil {
			return err
		}
	}
	in.bootout(ctx)
	var err error
	for try := 0; try < 5; try++ { // the service before may take a while to end
		if err = in.run(ctx, "launchctl", "bootstrap", "system", plistFile); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return fmt.Errorf("%w; the files are written: start the service with launchctl bootstrap system %s", err, plistFile)
}

// bootout stops the service, if it runs.
func (in *installer) bootout(ctx context.Context) {
	quiet := *in
	quiet.stderr = io.Discard // it is no error if there is none
	quiet.run(ctx, "launchctl", "bootout", "system/"+launchdLabel)
}

func (in *installer) uninstall(ctx context.Context) error {
	in.bootout(ctx)
	if err := in.remove(plistFile, tokenFile, serverFile, programFile); err != nil {
		return err
	}
	fmt.Fprintf(in.stdout, "The key of this machine, if it had one, stays in %s.\n", stateFolder)
	return nil
}

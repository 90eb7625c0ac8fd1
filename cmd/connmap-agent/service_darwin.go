package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Where install puts things. The program is where root alone may write: /usr/local/bin may
// belong to a user.
const (
	programFile = "/Library/PrivilegedHelperTools/connmap-agent"
	tokenFile   = "/etc/connmap/agent.token"
	serverFile  = "/etc/connmap/server-cert.pem"
	plistFile   = "/Library/LaunchDaemons/" + launchdLabel + ".plist"
	stateFolder = "/var/db/connmap-agent" // it stays
	logFile     = "/var/log/connmap-agent.log"
	biggestLog  = 1 << 20 // bytes at the start of an agent
)

const (
	serviceStarter    = "launchd starts, as root"
	whoInstalls       = "root"
	installsElsewhere = false
)

func installHelp() string {
	return fmt.Sprintf(`It copies this program to %s, writes the token or the password, for
root alone, to %s and the property list to
%s, and starts it. A certificate goes to
%s. The service runs as root, keeps its key in
%s and writes what goes wrong to
%s. This is experimental.`, programFile, tokenFile, plistFile, serverFile, stateFolder, logFile)
}

// service runs the agent. As a service it empties a log that has grown: launchd would let
// it grow for ever, by a line each time that it starts an agent whose token is wrong.
func service(ctx context.Context, args []string, stderr io.Writer, agent func(ctx context.Context, args []string, stderr io.Writer) error) error {
	if log, err := os.Stat(logFile); err == nil && log.Size() > biggestLog {
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
	for try := 0; try < 5; try++ { // an older one takes a while to end
		if err = in.run(ctx, "launchctl", "bootstrap", "system", plistFile); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return fmt.Errorf("%w; the files are written", err)
}

// bootout ends the service, if there is one.
func (in *installer) bootout(ctx context.Context) {
	quiet := *in
	quiet.stderr = io.Discard // that there is none is no trouble
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

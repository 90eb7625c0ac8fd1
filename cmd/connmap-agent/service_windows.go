package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

// Where install puts files: below the folder of programs, to which only administrators may
// write.
var (
	programFolder = filepath.Join(programs(), "connmap-agent")
	programFile   = filepath.Join(programFolder, "connmap-agent.exe")
	stateFolder   = filepath.Join(programFolder, "state")
	tokenFile     = filepath.Join(stateFolder, "agent.token")
	serverFile    = filepath.Join(stateFolder, "server-cert.pem")
)

func programs() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	if err != nil {
		return `C:\Program Files`
	}
	return dir
}

const (
	serviceName    = "connmap-agent" // also the source of its events
	serviceAccount = `NT AUTHORITY\LocalService`

	// stateAccess grants administrators and the system all rights on the state folder and
	// its files, the service's account reading and writing, and nobody else anything.
	stateAccess = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;LS)"

	stopTimeout = 30 * time.Second
	eventID     = 1
)

const (
	serviceStarter    = "Windows starts, as administrator"
	whoInstalls       = "administrator"
	installsElsewhere = false
)

func installHelp() string {
	return fmt.Sprintf(`It copies this program to
	%s, and starts it. The token or the
	password goes to %s, and a certificate to
	%s, both for administrators and the
	service alone. The service has the account LocalService, which has few rights, keeps its
	key in that folder and logs warnings and errors as events. This is experimental.`, programFile, tokenFile, serverFile)
}

// asService is the first argument of a service's command line.
const asService = "service"

// service runs the agent, as a service if Windows has started it as one.
func service(ctx context.Context, args []string, stderr io.Writer, agent func(ctx context.Context, args []string, stderr io.Writer) error) error {
	if len(args) == 0 || args[0] != asService {
		return agent(ctx, args, stderr)
	}
	events, err := eventlog.Open(serviceName)
	if err != nil {
		return err
	}
	defer events.Close()
	return svc.Run(serviceName, &handler{events, func(ctx context.Context) error { return agent(ctx, args[1:], eventWriter{events}) }})
}

// A handler runs the agent until Windows asks it to stop.
type handler struct {
	events *eventlog.Log
	agent  func(ctx context.Context) error
}

func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- h.agent(ctx) }()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case err := <-ended:
			if err != nil {
				h.events.Error(eventID, "connmap-agent: "+err.Error())
				return true, 1
			}
			return false, 0
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopTimeout / time.Millisecond)}
				cancel()
			}
		}
	}
}

// An eventWriter writes lines to Windows' event log, which has a maximum size.
type eventWriter struct{ events *eventlog.Log }

func (w eventWriter) Write(b []byte) (int, error) {
	return len(b), w.events.Warning(eventID, string(bytes.TrimSpace(bytes.ReplaceAll(b, []byte{0}, nil))))
}

func (in *installer) install(ctx context.Context) error {
	command := append([]string{programFile, asService}, in.agentArgs(stateFolder)...)
	if in.dryRun {
		fmt.Fprintf(in.stdout, "make %s (access %s)\n", stateFolder, stateAccess)
		in.write(in.files())
		fmt.Fprintf(in.stdout, "make the service %s of %s, and start it: %s\n", serviceName, serviceAccount, windows.ComposeCommandLine(command))
		return nil
	}
	m, err := connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	s, err := m.OpenService(serviceName)
	if err == nil {
		// Windows does not let a running program be overwritten.
		err = stop(ctx, s)
	} else if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		s, err = nil, nil
	}
	if s != nil {
		defer s.Close()
	}
	if err != nil {
		return fmt.Errorf("the service %s: %w", serviceName, err)
	}
	fmt.Fprintln(in.stdout, "make", stateFolder)
	if err := makePrivate(stateFolder); err != nil {
		return fmt.Errorf("%s: %w", stateFolder, err)
	}
	if err := in.write(in.files()); err != nil {
		return err
	}

	fmt.Fprintf(in.stdout, "make the service %s of %s, and start it\n", serviceName, serviceAccount)
	if s == nil {
		s, err = m.CreateService(serviceName, programFile, mgr.Config{
			StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal, ServiceStartName: serviceAccount,
			DisplayName: "connmap agent", Description: "Reports where network connections go.",
		}, command[1:]...)
		if err == nil {
			defer s.Close()
		}
	} else {
		err = setCommand(s, windows.ComposeCommandLine(command))
	}
	if err != nil {
		return fmt.Errorf("the service %s: %w", serviceName, err)
	}
	restart := mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: 5 * time.Second}
	if err := errors.Join(s.SetRecoveryActions([]mgr.RecoveryAction{restart, restart, restart}, 24*60*60), s.SetRecoveryActionsOnNonCrashFailures(true)); err != nil {
		fmt.Fprintln(in.stderr, "connmap-agent: Windows will not start the service again if it fails:", err)
	}
	eventlog.Remove(serviceName) // of an earlier installation
	if err := eventlog.InstallAsEventCreate(serviceName, eventlog.Error|eventlog.Warning|eventlog.Info); err != nil {
		fmt.Fprintln(in.stderr, "connmap-agent: its events will have no description:", err)
	}
	if err := s.Start(); err != nil {
		return fmt.Errorf("the service %s: %w", serviceName, err)
	}
	return nil
}

func (in *installer) uninstall(ctx context.Context) error {
	fmt.Fprintln(in.stdout, "remove the service", serviceName)
	if !in.dryRun {
		m, err := connect()
		if err != nil {
			return err
		}
		defer m.Disconnect()
		s, err := m.OpenService(serviceName)
		if err == nil {
			err = errors.Join(stop(ctx, s), s.Delete(), s.Close())
		} else if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("the service %s: %w", serviceName, err)
		}
		eventlog.Remove(serviceName)
	}
	if err := in.remove(tokenFile, serverFile); err != nil {
		return err
	}
	if self, err := os.Executable(); err == nil && self == programFile {
		fmt.Fprintf(in.stdout, "Remove %s when this command has ended: Windows lets no program remove itself.\n", programFile)
	} else if err := in.remove(programFile); err != nil {
		return err
	}
	fmt.Fprintf(in.stdout, "The key of this machine, if it had one, stays in %s.\n", stateFolder)
	return nil
}

// connect connects to Windows' service manager.
func connect() (*mgr.Mgr, error) {
	m, err := mgr.Connect()
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the service manager: %w; run this as administrator, or see what it would do with -dry-run", err)
	}
	return m, nil
}

// stop stops a service, and waits until it has.
func stop(ctx context.Context, s *mgr.Service) error {
	if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		status, err := s.Query()
		if err != nil || status.State == svc.Stopped {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the service does not stop: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// setCommand changes the command line of a service, and nothing else.
func setCommand(s *mgr.Service, line string) error {
	p, err := windows.UTF16PtrFromString(line)
	if err != nil {
		return err
	}
	return windows.ChangeServiceConfig(s.Handle, windows.SERVICE_NO_CHANGE, windows.SERVICE_NO_CHANGE, windows.SERVICE_NO_CHANGE, p, nil, nil, nil, nil, nil, nil)
}

// makePrivate makes a folder with stateAccess, or sets that on an existing one.
func makePrivate(name string) error {
	sd, err := windows.SecurityDescriptorFromString(stateAccess)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	err = windows.CreateDirectory(path, &windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: sd})
	if !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return err
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(name, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/conntrack/feed"
)

const maxShownName = 40 // of an agent in a table, in characters

func configDir() string { return filepath.Join(xdg.ConfigHome, "connmap") }

func registryFile(dir string) string { return filepath.Join(dir, "agents.json") }

// administer runs the commands agents and token, which list and change who may report. A
// running server notices the changes by itself.
func administer(what string, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("mapserver "+what, flag.ContinueOnError)
	f.SetOutput(stderr)
	dir := f.String("config", configDir(), "`folder` of the server's key and its agents")
	if what == "token" {
		return token(f, dir, args, stdout, stderr)
	}
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver agents lists the agents that have joined, and changes what they may do.

  mapserver agents list              list them: address, when joined, when last seen, state
  mapserver agents approve AGENT     let a waiting agent report (see mapserver -approve)
  mapserver agents revoke AGENT      refuse an agent from now on
  mapserver agents rename AGENT NAME change its name on the map

AGENT is a name or the beginning of a key. Before names that begin with -, put -- after
all flags: mapserver agents revoke -- -x

`)
		f.PrintDefaults()
	}
	if err := parseCommand(f, args, "agents"); err != nil {
		return err
	}
	r, err := feed.OpenRegistry(registryFile(*dir))
	if err != nil {
		return err
	}
	switch f.Arg(0) + fmt.Sprint(f.NArg()) {
	case "list1":
		return list(r, stdout)
	case "approve2":
		a, err := r.Approve(f.Arg(1))
		if err != nil {
			return err
		}
		if !a.Waiting {
			fmt.Fprintf(stdout, "%s was not waiting for approval; mapserver agents list shows which agents are.\n", a.Name)
			return nil
		}
		fmt.Fprintf(stdout, "%s may report now; it joins within five minutes.\n", a.Name)
		return nil
	case "revoke2":
		a, err := r.Revoke(f.Arg(1))
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s is revoked; a running server disconnects it within seconds.\n"+
			"Whoever has that machine may still have the token and join with another key:\nmapserver token -rotate makes the old token invalid; agents that have joined do not need it.\n", a.Name)
		return nil
	case "rename3":
		return r.Rename(f.Arg(1), f.Arg(2))
	}
	return errors.New("expected list, approve AGENT, revoke AGENT or rename AGENT NAME; see mapserver agents -h")
}

// parseCommand parses flags before, between and after other arguments. After -- there are no flags.
func parseCommand(f *flag.FlagSet, args []string, name string) error {
	var words []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			hint := ""
			if name == "agents" {
				hint = "; before a name that begins with - put --, as in mapserver agents revoke -- -x"
			}
			return fmt.Errorf("%w; mapserver %s -h lists the flags%s", err, name, hint)
		}
		flags := len(args) - f.NArg()
		if f.NArg() == 0 || flags > 0 && args[flags-1] == "--" {
			return f.Parse(slices.Concat([]string{"--"}, words, f.Args()))
		}
		words, args = append(words, f.Arg(0)), f.Args()[1:]
	}
}

func list(r *feed.Registry, out io.Writer) error {
	all, err := r.All()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "no agent has joined yet; mapserver token prints how one does")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AGENT\tADDRESS\tJOINED\tSEEN\tKEY\tSTATE")
	for _, a := range all {
		state := "may report"
		switch {
		case !a.Revoked.IsZero():
			state = "revoked " + shortTime(a.Revoked)
		case a.Waiting:
			state = "waits for approval"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.12s\t%s\n", shortName(a.Name), a.Addr, shortTime(a.Joined), shortTime(a.Seen), a.Key, state)
	}
	return w.Flush()
}

// shortName cuts a long name to keep the table narrow.
func shortName(name string) string {
	if r := []rune(name); len(r) > maxShownName {
		return string(r[:maxShownName-1]) + "…"
	}
	return name
}

func shortTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func token(f *flag.FlagSet, dir *string, args []string, stdout, stderr io.Writer) error {
	rotate := f.Bool("rotate", false, "make a new token and invalidate all older ones; agents that have joined stay")
	expires := f.Duration("expires", 0, "make another token that works for this long, such as 1h; with -rotate it replaces the others")
	listen := f.String("listen", fmt.Sprintf(":%d", feed.DefaultPort), "`address` where the server listens")
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver token prints the command and the token with which machines join, and makes new tokens.

  mapserver token                    print the token that works longest
  mapserver token -expires 1h        make another one, for an hour
  mapserver token -rotate            make a new one that replaces all others

`)
		f.PrintDefaults()
	}
	if err := parseCommand(f, args, "token"); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; mapserver token -h lists the flags", f.Arg(0))
	case *expires < 0 || *expires > 0 && *expires < time.Second:
		return fmt.Errorf("-expires: expected 1s or more, found %v", *expires)
	}
	at, err := net.ResolveTCPAddr("tcp", *listen)
	if err != nil || at.Port == 0 {
		return fmt.Errorf("-listen: expected an address such as :%d, found %q", feed.DefaultPort, *listen)
	}
	id, err := feed.LoadIdentity(*dir)
	if err != nil {
		return err
	}
	t := id.Token()
	if *rotate || *expires > 0 {
		if t, err = id.NewToken(*expires, *rotate); err != nil {
			return err
		}
	}
	addr, _ := netip.AddrFromSlice(at.IP)
	greetAgents(stdout, netip.AddrPortFrom(addr, uint16(at.Port)), t, true)
	if *expires > 0 {
		fmt.Fprintf(stdout, "This token works until %s.\n", shortTime(time.Now().Add(*expires)))
	}
	fmt.Fprintf(stdout, "Fingerprint of the certificate, for agents that join by password with -tofu:\n%s\n", feed.Fingerprint(id.Certificate()))
	return nil
}

// greetAgents prints how machines join a server that listens at an address. The token is a
// secret: show is true only if the user asked for it, or on a terminal.
func greetAgents(out io.Writer, at netip.AddrPort, t feed.Token, show bool) {
	if t == (feed.Token{}) {
		fmt.Fprint(out, "All tokens have expired, so that no new machine can join: make one with mapserver token -rotate.\n\n")
		return
	}
	host := joinHost(at.Addr())
	if at.Port() != feed.DefaultPort && at.Port() != feed.FallbackPort {
		host = net.JoinHostPort(host, fmt.Sprint(at.Port()))
	}
	fmt.Fprintf(out, "Other machines join with:\n\n    connmap-agent %s -\n\n", host)
	if show {
		fmt.Fprintf(out, "It asks for this token, which is a secret:\n\n    %s\n\n", t)
	} else {
		fmt.Fprint(out, "It asks for the token that mapserver token prints.\n\n")
	}
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// joinHost returns an address by which other machines are likely to reach a server that
// listens at bound.
func joinHost(bound netip.Addr) string {
	if bound.IsValid() && !bound.IsUnspecified() {
		return bound.Unmap().String()
	}
	addrs, _ := net.InterfaceAddrs()
	best := "127.0.0.1"
	for _, x := range addrs {
		p, err := netip.ParsePrefix(x.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if p.Addr().Is4() {
			return p.Addr().String()
		}
		if best == "127.0.0.1" {
			best = p.Addr().String()
		}
	}
	return best
}

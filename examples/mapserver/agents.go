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
	"text/tabwriter"
	"time"

	"github.com/adrg/xdg"

	"github.com/connmapgo/connmap/conntrack/feed"
)

const longestName = 40 // of an agent in a table, in characters

func configDir() string { return filepath.Join(xdg.ConfigHome, "connmap") }

func registryFile(dir string) string { return filepath.Join(dir, "agents.json") }

// administer says and changes who may report, also while a server runs: that learns of
// it by itself.
func administer(what string, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("mapserver "+what, flag.ContinueOnError)
	f.SetOutput(stderr)
	dir := f.String("config", configDir(), "`folder` of the server's key and its agents")
	if what == "token" {
		return token(f, dir, args, stdout, stderr)
	}
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver agents tells which agents have joined, and changes it.

  mapserver agents list              who may report, since when, seen when
  mapserver agents approve AGENT     let one report that waits (see -approve)
  mapserver agents revoke AGENT      turn one away, by its name or the beginning of its key
  mapserver agents rename AGENT NAME give one another name on the map

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
			fmt.Fprintf(stdout, "%s did not wait for it; mapserver agents list shows who does.\n", a.Name)
			return nil
		}
		fmt.Fprintf(stdout, "%s may report; it tries again within five minutes.\n", a.Name)
		return nil
	case "revoke2":
		a, err := r.Revoke(f.Arg(1))
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s is revoked; a server that runs turns it away within seconds.\n"+
			"Whoever has that machine may still have the token and join by another key:\nmapserver token -rotate makes the token worthless, and the other agents do not need it any more.\n", a.Name)
		return nil
	case "rename3":
		return r.Rename(f.Arg(1), f.Arg(2))
	}
	return errors.New("expected list, approve AGENT, revoke AGENT or rename AGENT NAME; mapserver agents -h tells more")
}

// parseCommand takes flags also behind other words.
func parseCommand(f *flag.FlagSet, args []string, name string) error {
	var words []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return fmt.Errorf("%w; mapserver %s -h lists the flags", err, name)
		}
		if f.NArg() == 0 {
			return f.Parse(append([]string{"--"}, words...))
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

// shortName leaves room for what else a line says; the beginning of a key names an agent too.
func shortName(name string) string {
	if r := []rune(name); len(r) > longestName {
		return string(r[:longestName-1]) + "…"
	}
	return name
}

func shortTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func token(f *flag.FlagSet, dir *string, args []string, stdout, stderr io.Writer) error {
	rotate := f.Bool("rotate", false, "make a new token and all older ones worthless; agents that have joined stay")
	expires := f.Duration("expires", 0, "make a token that works for so long, such as 1h, beside the others; with -rotate in their place")
	listen := f.String("listen", fmt.Sprintf(":%d", feed.DefaultPort), "`address` where the server listens")
	f.Usage = func() {
		fmt.Fprint(stderr, `mapserver token prints the line by which machines join, and makes new tokens.

  mapserver token                    the token that works longest
  mapserver token -expires 1h        another one, for an hour
  mapserver token -rotate            a new one in place of all others

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
	fmt.Fprintf(stdout, "The certificate's fingerprint, for agents that join by password with -tofu, is\n%s\n", feed.Fingerprint(id.Certificate()))
	return nil
}

// greetAgents prints how machines join a server that listens at an address. The token is a
// secret, and shown only where somebody has asked for it or is there to see it.
func greetAgents(out io.Writer, at netip.AddrPort, t feed.Token, show bool) {
	if t == (feed.Token{}) {
		fmt.Fprint(out, "No token works any more, so that no new machine can join: mapserver token -rotate makes one.\n\n")
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

// isTerminal reports whether somebody is likely to read what is written.
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

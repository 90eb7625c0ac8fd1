// Package feed reports the connections of many machines to one map server over TLS. It
// neither collects nor shows connections, and a server sends no commands to its agents.
//
// A daemon that reports the connections of its machine:
//
//	func report(ctx context.Context, server, text string) error {
//		token, err := feed.ParseToken(text) // as "mapserver token" prints it
//		if err != nil {
//			return err
//		}
//		key, err := feed.LoadKey("agent-key.pem") // made when it is missing
//		if err != nil {
//			return err
//		}
//		c, err := conntrack.New(conntrack.Options{})
//		if err != nil {
//			return err
//		}
//		defer c.Close()
//		client := &feed.Client{Addr: server, Token: token, Key: key, Name: "nas", Source: c, Info: c.Info}
//		return client.Run(ctx)
//	}
//
// A server that hands what it receives to a [Handler]:
//
//	func serve(ctx context.Context, l net.Listener, h feed.Handler) error {
//		identity, err := feed.LoadIdentity("config") // made when it is missing
//		if err != nil {
//			return err
//		}
//		registry, err := feed.OpenRegistry("config/agents.json")
//		if err != nil {
//			return err
//		}
//		fmt.Println("agents join with the token", identity.Token())
//		return (&feed.Server{Identity: identity, Registry: registry, Handler: h}).Serve(ctx, l)
//	}
//
// # Who may report
//
// An agent joins with a [Token] of the server or, where [Identity.SetPassword] allows it, with
// a password and the server's certificate. A server with a [Registry] then knows the agent by
// the key in [Client] and needs no token any more, until the key is revoked. Tokens can expire
// and change. Server.Approve asks for the consent of somebody before a new key may report.
//
// # What arrives
//
// A [Handler] first receives all connections of an agent, then what changes. A [Client]
// reconnects by itself and then starts with all connections again. If the Handler is a
// [Acknowledger], agents keep close events and counts of lost events until it has recorded them,
// with Client.Spool also on disk and across restarts. What does not fit counts as lost, and
// the server learns of it.
//
// # Limits
//
// All that comes from outside is bounded: connections before and after joining, frames,
// texts, guesses and keys. The README of this package lists which attacks the limits hold
// against, and the tests that show it. docs/protocol.md describes the wire protocol and each
// limit, for those who write another client or server.
package feed

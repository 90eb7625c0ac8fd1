// Command embed is a web server that also reports this machine's connections to a map server.
// All that a daemon needs for that is in report.
//
//	CONNMAP_TOKEN=cm1_... embed -map 192.0.2.7 -listen :8080
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/connmapgo/connmap/conntrack"
	"github.com/connmapgo/connmap/conntrack/feed"
)

func main() {
	server := flag.String("map", "", "`address` of the map server, whose token is in CONNMAP_TOKEN (default report nothing)")
	key := flag.String("key", "embed-key.pem", "`file` of this daemon's own key, created if missing")
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to serve at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// It ends within a second, whatever it is doing.
	context.AfterFunc(ctx, func() { time.Sleep(800 * time.Millisecond); os.Exit(1) })
	var reported sync.WaitGroup
	if *server != "" {
		reported.Go(func() {
			// The daemon goes on with its own work if this fails.
			if err := report(ctx, *server, os.Getenv("CONNMAP_TOKEN"), *key); err != nil {
				log.Print(err)
			}
		})
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	s := &http.Server{Addr: *listen}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	reported.Wait() // it reports the last events
}

// report sends all connections of this machine to a map server until ctx ends. It reconnects by
// itself.
func report(ctx context.Context, server, token, keyFile string) error {
	t, err := feed.ParseToken(token)
	if err != nil {
		return err
	}
	// Once the agent has joined with the token, the server recognises it by this key.
	key, err := feed.LoadKey(keyFile)
	if err != nil {
		return err
	}
	c, err := conntrack.New(conntrack.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	name, _ := os.Hostname()
	client := &feed.Client{Addr: server, Token: t, Key: key, Name: name, Source: c, Info: c.Info}
	return client.Run(ctx)
}

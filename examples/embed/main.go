// Command embed is a web server that also reports this machine's connections to a map:
// all that a daemon needs for that is in report.
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
	server := flag.String("map", "", "`host` of the map server, whose token is in CONNMAP_TOKEN (default report nothing)")
	key := flag.String("key", "embed-key.pem", "`file` of this daemon's own key, made when it is missing")
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to serve at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Whatever it is doing then, it ends within a second.
	context.AfterFunc(ctx, func() { time.Sleep(800 * time.Millisecond); os.Exit(1) })
	var reported sync.WaitGroup
	if *server != "" {
		reported.Go(func() {
			// The daemon has its own work to do, whatever becomes of this.
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
	reported.Wait() // for it tells the map what it has not told yet
}

// report tells a map server of all connections of this machine until ctx ends. It joins
// again by itself when the link breaks.
func report(ctx context.Context, server, token, keyFile string) error {
	t, err := feed.ParseToken(token)
	if err != nil {
		return err
	}
	// The server knows it by this, once the token has let it in.
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

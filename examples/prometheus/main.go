// Command prometheus is an exporter for Prometheus: it counts this machine's connections
// and their bytes by program, country, network, rule and direction.
// It is not an agent: it records nothing, and sends data only to clients of /metrics.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/publicsuffix"

	asntable "github.com/connmapgo/connmap/asn/embedded"
	"github.com/connmapgo/connmap/conntrack"
	geotable "github.com/connmapgo/connmap/geoip/embedded"
	"github.com/connmapgo/connmap/rules"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// It ends within a second, whatever it is doing.
	context.AfterFunc(ctx, func() { time.Sleep(800 * time.Millisecond); os.Exit(1) })
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "prometheus:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	f := flag.NewFlagSet("prometheus", flag.ContinueOnError)
	f.SetOutput(stderr)
	listen := f.String("listen", "127.0.0.1:9435", "`address` to serve /metrics at")
	maxSeries := f.Int("series", 1000, "maximum number of combinations of labels; later ones count as \"other\"")
	domains := f.Bool("domains", false, "learn names of peers with eBPF, and give their domains as the label domain")
	if err := f.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	c, err := conntrack.New(conntrack.Options{Names: *domains, Logger: log})
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	log.Info("serving", "url", "http://"+l.Addr().String()+"/metrics", "reads", c.Info().Backend, "limited", c.Info().Limited)
	e := newExporter(*maxSeries)
	e.names = *domains
	s := &http.Server{Handler: e.handler()}
	go s.Serve(l)
	defer s.Close()
	for event, err := range c.Events(ctx) {
		if err != nil {
			return err
		}
		e.add(event)
	}
	return nil
}

var names = []string{"program", "domain", "country", "asn", "rule", "direction"}

// labels are the values of one combination, in the order of names.
type labels struct{ program, domain, country, asn, rule, direction string }

// The metrics. Each has the labels, except for lost.
var (
	open     = prometheus.NewDesc("connmap_connections", "Connections that are open.", names, nil)
	opened   = prometheus.NewDesc("connmap_connections_opened_total", "Connections that were open when this began, or have opened since.", names, nil)
	sent     = prometheus.NewDesc("connmap_sent_bytes_total", "Payload that connections have sent.", names, nil)
	received = prometheus.NewDesc("connmap_received_bytes_total", "Payload that connections have received.", names, nil)
	lost     = prometheus.NewDesc("connmap_lost_events_total", "Openings, changes and closings that could not be counted.", nil, nil)
)

// A series has the counts of one combination of labels.
type series struct{ open, opened, tx, rx uint64 }

// An exporter counts the events of a conntrack collector. It is a prometheus.Collector.
type exporter struct {
	rules     *rules.Set
	maxSeries int
	names     bool // connections have names

	mu     sync.Mutex
	series map[labels]*series
	conns  map[uint64]counted // by Conn.ID
	young  []young            // that opened of late, the oldest first
	lost   uint64
}

// counted is the part of a connection that has been counted so far.
type counted struct {
	series *series
	name   string
	opened bool
	tx, rx uint64
}

// A young connection may get its name soon: its opening is counted under that, or when it is no longer
// young.
type young struct {
	id uint64
	at time.Time
}

const youth = 2 * time.Second

func newExporter(maxSeries int) *exporter {
	return &exporter{rules: rules.Default(), maxSeries: maxSeries, series: make(map[labels]*series), conns: make(map[uint64]counted)}
}

func (e *exporter) handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(e)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	return mux
}

// add counts an event.
func (e *exporter) add(event conntrack.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if event.Kind == conntrack.Lost {
		e.lost += event.Lost
		return
	}
	e.grow(event.Time)
	c := event.Conn
	n, known := e.conns[c.ID]
	if !known {
		// Its labels stay, even if its program becomes known later, but for its domain.
		n.series, n.name = e.seriesOf(&c), c.Name
		n.series.open++
		if e.names && c.Name == "" && event.Kind != conntrack.Close {
			e.young = append(e.young, young{c.ID, event.Time})
		} else {
			n.settle()
		}
	} else if c.Name != n.name {
		n.series.open--
		n.series, n.name = e.seriesOf(&c), c.Name
		n.series.open++
		n.settle()
	}
	n.series.tx += c.Tx - min(c.Tx, n.tx)
	n.series.rx += c.Rx - min(c.Rx, n.rx)
	n.tx, n.rx = c.Tx, c.Rx
	e.conns[c.ID] = n
	if event.Kind == conntrack.Close {
		n.settle()
		n.series.open--
		delete(e.conns, c.ID)
	}
}

// grow counts the openings of connections that are no longer young.
func (e *exporter) grow(now time.Time) {
	for len(e.young) > 0 && now.Sub(e.young[0].at) >= youth {
		if n, ok := e.conns[e.young[0].id]; ok {
			n.settle()
			e.conns[e.young[0].id] = n
		}
		e.young = e.young[1:]
	}
}

// settle counts the opening of a connection once.
func (n *counted) settle() {
	if !n.opened {
		n.opened = true
		n.series.opened++
	}
}

// domainOf returns the part of a name that somebody can register, by the Public Suffix List.
func domainOf(name string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return domain
	}
	return name
}

func (e *exporter) seriesOf(c *conntrack.Conn) *series {
	l := labels{program: c.Process.Comm, domain: domainOf(c.Name), direction: c.Direction.String()}
	if place, ok := geotable.DB().Lookup(c.Peer.Addr()); ok {
		l.country = place.Country
	}
	if as, ok := asntable.DB().Lookup(c.Peer.Addr()); ok {
		l.asn = strconv.FormatUint(uint64(as.Number), 10)
	}
	rule, _ := e.rules.Match(rules.Conn{Local: c.Local.Port(), Peer: c.Peer.Port(), Comm: c.Process.Comm, Exe: c.Process.Exe, Name: c.Name})
	l.rule = rule.Label
	if e.series[l] == nil && len(e.series) >= e.maxSeries {
		// Otherwise strangers who connect could fill the memory of Prometheus.
		l = labels{"other", "other", "other", "other", "other", l.direction}
	}
	if e.series[l] == nil {
		e.series[l] = &series{}
	}
	return e.series[l]
}

// Describe implements prometheus.Collector.
func (e *exporter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{open, opened, sent, received, lost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (e *exporter) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grow(time.Now())
	send := func(d *prometheus.Desc, t prometheus.ValueType, n uint64, l ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, float64(n), l...)
	}
	for l, s := range e.series {
		values := []string{l.program, l.domain, l.country, l.asn, l.rule, l.direction}
		send(open, prometheus.GaugeValue, s.open, values...)
		send(opened, prometheus.CounterValue, s.opened, values...)
		send(sent, prometheus.CounterValue, s.tx, values...)
		send(received, prometheus.CounterValue, s.rx, values...)
	}
	send(lost, prometheus.CounterValue, e.lost)
}

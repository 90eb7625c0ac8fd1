package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/connmapgo/connmap/internal/random"
)

// Orders to a cutter that spoil its links, now and from now on. Several can be in a line.
const (
	slowly       = " slowly"        // what is handed on waits up to a second
	nothingForth = " nothing-forth" // of what a client sends nothing arrives, not even that it closes
	nothingBack  = " nothing-back"  // likewise of what the server sends
	jammed       = " jammed"        // nothing is taken of either
)

// A cutter is a proxy from one address to another, which is told by lines of standard input
// to spoil its links, to cut them, now or each after some bytes at random, and to be calm.
type cutter struct {
	to string

	mu      sync.Mutex
	chance  *rand.Rand
	links   map[*cutLink]bool
	cutting bool
	spoils  string
}

// A cutLink is a link through a cutter.
type cutLink struct {
	near, far net.Conn
	spoils    string
	most      [2]int64 // bytes in each direction until it is cut; zero: no end
}

func (l *cutLink) close() {
	l.near.Close()
	l.far.Close()
}

func cut(from, to string) {
	l, err := net.Listen("tcp", from)
	must(err)
	c := &cutter{to: to, chance: random.New(), links: make(map[*cutLink]bool)}
	go func() {
		for {
			near, err := l.Accept()
			must(err)
			c.join(near)
		}
	}()
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		c.order(in.Text())
	}
}

func (c *cutter) order(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.cutting = what == "cutting"; what {
	case "cutting":
	case "now":
		for l := range c.links {
			l.close()
		}
	case "well":
		c.spoils = ""
		for l := range c.links {
			// What was swallowed does not come again.
			if !strings.Contains(l.spoils, "nothing") {
				l.spoils = ""
			}
		}
	default:
		c.spoils = what
		for l := range c.links {
			l.spoils = what
		}
	}
}

func (c *cutter) join(near net.Conn) {
	far, err := net.DialTimeout("tcp", c.to, 5*time.Second)
	if err != nil {
		near.Close()
		return
	}
	l := &cutLink{near: near, far: far}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.spoils = c.spoils
	c.links[l] = true
	if c.cutting {
		l.most[c.chance.IntN(2)] = 1 + c.chance.Int64N(60_000)
	}
	go c.lead(l, near, far, nothingForth, l.most[0])
	go c.lead(l, far, near, nothingBack, l.most[1])
}

// lead hands on what one side sends.
func (c *cutter) lead(l *cutLink, from, to net.Conn, nothing string, most int64) {
	b, given := make([]byte, 16<<10), int64(0)
	for {
		n, err := from.Read(b)
		spoils := c.wait(l)
		switch {
		case strings.Contains(spoils, nothing):
			if err != nil {
				return // the other side is not to know
			}
			continue
		case most > 0:
			n = min(n, int(most-given))
		}
		_, failed := to.Write(b[:n])
		if given += int64(n); err != nil || failed != nil || most > 0 && given == most {
			break
		}
	}
	l.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, l)
}

// wait waits as long as a link is jammed, or slow, and returns how it is spoilt then.
func (c *cutter) wait(l *cutLink) string {
	waited := time.Duration(0)
	for {
		c.mu.Lock()
		spoils, slow := l.spoils, time.Duration(c.chance.Int64N(int64(time.Second)))
		c.mu.Unlock()
		switch {
		case spoils == jammed:
			slow = 50 * time.Millisecond
		case spoils != slowly || waited > 0:
			return spoils
		}
		time.Sleep(slow)
		waited += slow
	}
}

// order tells the proxy what to do.
func (tr *trial) order(what string) { fmt.Fprintln(tr.proxy.in, what) }

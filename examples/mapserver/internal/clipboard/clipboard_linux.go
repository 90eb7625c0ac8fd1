package clipboard

import (
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

const (
	maxText      = 4 << 20  // bytes of a text that is read
	chunk        = 64 << 10 // bytes of a text that is sent at a time
	maxTransfers = 16       // that are under way
	timeout      = 3 * time.Second
)

// A Clipboard is a connection to the X server's clipboard. The zero Clipboard connects
// when it is used first. It is safe for concurrent use.
type Clipboard struct {
	mu    sync.Mutex // guards what follows
	conn  *xgb.Conn  // nil: not connected
	done  chan struct{}
	win   xproto.Window
	atoms map[string]xproto.Atom
	text  []byte
	owner bool // other programs get text
	sends map[transfer][]byte

	reading sync.Mutex // one reader at a time
	events  chan xgb.Event
}

// A transfer identifies a large text that is being sent to another program.
type transfer struct {
	win  xproto.Window
	prop xproto.Atom
}

// atomNames are the names of the atoms that are used.
var atomNames = []string{"CLIPBOARD", "UTF8_STRING", "text/plain;charset=utf-8", "TEXT", "TARGETS", "INCR", "CONNMAP_CLIPBOARD"}

// Otherwise xgb would report a missing authority file on standard error.
func init() { xgb.Logger = log.New(io.Discard, "", 0) }

// open connects to the X server if necessary.
func (c *Clipboard) open() error {
	if c.conn != nil {
		return nil
	}
	conn, err := xgb.NewConn()
	if err != nil {
		return fmt.Errorf("there is no X server: %w", err)
	}
	setup := xproto.Setup(conn)
	win, err := xproto.NewWindowId(conn)
	if err == nil {
		err = xproto.CreateWindowChecked(conn, 0, win, setup.DefaultScreen(conn).Root, 0, 0, 1, 1, 0, xproto.WindowClassInputOnly, 0,
			xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange}).Check()
	}
	atoms := map[string]xproto.Atom{}
	for _, n := range atomNames {
		if err == nil {
			var r *xproto.InternAtomReply
			if r, err = xproto.InternAtom(conn, false, uint16(len(n)), n).Reply(); err == nil {
				atoms[n] = r.Atom
			}
		}
	}
	if err != nil {
		conn.Close()
		return err
	}
	c.conn, c.win, c.atoms, c.sends, c.owner = conn, win, atoms, map[transfer][]byte{}, false
	c.events, c.done = make(chan xgb.Event, 100), make(chan struct{})
	go c.serve(conn, c.events, c.done)
	return nil
}

// Write puts a text on the clipboard, where it stays until another program writes to it
// or Close.
func (c *Clipboard) Write(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	c.text, c.owner = []byte(text), true
	err := xproto.SetSelectionOwnerChecked(c.conn, c.win, c.atoms["CLIPBOARD"], xproto.TimeCurrentTime).Check()
	if err != nil {
		c.owner = false
	}
	return err
}

// Read returns the text on the clipboard. It fails if there is none, if it is larger than
// 4 MiB, and if its owner does not answer for some seconds.
func (c *Clipboard) Read() (string, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	err := c.open()
	conn, win, atoms, events, done := c.conn, c.win, c.atoms, c.events, c.done
	text := c.text
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	r, err := xproto.GetSelectionOwner(conn, atoms["CLIPBOARD"]).Reply()
	if err != nil {
		return "", err
	}
	switch r.Owner {
	case 0:
		return "", errors.New("it is empty")
	case win:
		return string(text), nil
	}
	prop := atoms["CONNMAP_CLIPBOARD"]
	for _, target := range []xproto.Atom{atoms["UTF8_STRING"], xproto.AtomString} {
		for len(events) > 0 {
			<-events // of an earlier Read that failed
		}
		xproto.DeleteProperty(conn, win, prop)
		xproto.ConvertSelection(conn, win, atoms["CLIPBOARD"], target, prop, xproto.TimeCurrentTime)
		n, err := wait(events, done, func(e xproto.SelectionNotifyEvent) bool { return e.Target == target })
		if err != nil {
			return "", err
		}
		if n.Property == 0 {
			continue // the owner does not offer this type
		}
		b, kind, err := property(conn, win, prop)
		if err == nil && kind == atoms["INCR"] {
			b, err = increments(conn, win, prop, events, done)
		}
		if err != nil {
			return "", err
		}
		if target == xproto.AtomString {
			b = []byte(latin1(b))
		}
		return string(b), nil
	}
	return "", errors.New("there is no text on it")
}

// latin1 decodes a STRING, which is in ISO-8859-1.
func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// property reads and deletes a property, into which another program has put the text.
func property(conn *xgb.Conn, win xproto.Window, prop xproto.Atom) ([]byte, xproto.Atom, error) {
	r, err := xproto.GetProperty(conn, true, win, prop, xproto.GetPropertyTypeAny, 0, maxText/4).Reply()
	if err != nil {
		return nil, 0, err
	}
	if r.BytesAfter > 0 {
		xproto.DeleteProperty(conn, win, prop)
		return nil, 0, errTooLarge
	}
	return r.Value, r.Type, nil
}

var errTooLarge = fmt.Errorf("the text on it is larger than %d MiB", maxText>>20)

// increments reads a text that comes in parts, up to an empty one.
func increments(conn *xgb.Conn, win xproto.Window, prop xproto.Atom, events chan xgb.Event, done chan struct{}) (text []byte, err error) {
	for {
		_, err := wait(events, done, func(e xproto.PropertyNotifyEvent) bool {
			return e.Atom == prop && e.State == xproto.PropertyNewValue
		})
		if err != nil {
			return nil, err
		}
		b, _, err := property(conn, win, prop)
		switch {
		case err != nil:
			return nil, err
		case len(b) == 0:
			return text, nil
		case len(text)+len(b) > maxText:
			return nil, errTooLarge
		}
		text = append(text, b...)
	}
}

// wait returns the next event of a type for which fits is true.
func wait[E xgb.Event](events chan xgb.Event, done chan struct{}, fits func(E) bool) (none E, err error) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok && fits(e) {
				return e, nil
			}
		case <-done:
			return none, errors.New("the X server is gone")
		case <-late.C:
			return none, errors.New("the program that owns it does not answer")
		}
	}
}

// serve handles events until the connection ends.
func (c *Clipboard) serve(conn *xgb.Conn, events chan xgb.Event, done chan struct{}) {
	defer func() {
		c.mu.Lock()
		if c.conn == conn {
			c.conn, c.owner = nil, false
		}
		c.mu.Unlock()
		close(done)
	}()
	for {
		e, err := conn.WaitForEvent()
		if e == nil && err == nil {
			return
		}
		switch e := e.(type) {
		case xproto.SelectionRequestEvent:
			c.serveRequest(conn, e)
		case xproto.SelectionClearEvent:
			c.mu.Lock()
			c.owner, c.text = false, nil
			c.mu.Unlock()
		case xproto.PropertyNotifyEvent:
			c.mu.Lock()
			_, sends := c.sends[transfer{e.Window, e.Atom}]
			c.mu.Unlock()
			if e.State == xproto.PropertyDelete && sends {
				c.sendNext(conn, transfer{e.Window, e.Atom})
			} else if e.State == xproto.PropertyNewValue {
				offer(events, e)
			}
		case xproto.SelectionNotifyEvent:
			offer(events, e)
		}
	}
}

// offer passes an event to Read, if it is waiting.
func offer(events chan xgb.Event, e xgb.Event) {
	select {
	case events <- e:
	default:
	}
}

// serveRequest answers another program that requests the text.
func (c *Clipboard) serveRequest(conn *xgb.Conn, e xproto.SelectionRequestEvent) {
	c.mu.Lock()
	text, owner, a := c.text, c.owner, c.atoms
	c.mu.Unlock()
	prop := e.Property
	if prop == 0 {
		prop = e.Target // of old programs
	}
	put := func(kind xproto.Atom, format byte, n int, data []byte) {
		xproto.ChangeProperty(conn, xproto.PropModeReplace, e.Requestor, prop, kind, format, uint32(n), data)
	}
	switch {
	case !owner || e.Selection != a["CLIPBOARD"]:
		prop = 0
	case e.Target == a["TARGETS"]:
		list := []xproto.Atom{a["TARGETS"], a["UTF8_STRING"], a["text/plain;charset=utf-8"], a["TEXT"]}
		data := make([]byte, 4*len(list))
		for i, t := range list {
			xgb.Put32(data[4*i:], uint32(t))
		}
		put(xproto.AtomAtom, 32, len(list), data)
	case e.Target == a["UTF8_STRING"], e.Target == a["text/plain;charset=utf-8"], e.Target == a["TEXT"]:
		kind := e.Target
		if kind == a["TEXT"] {
			kind = a["UTF8_STRING"]
		}
		if len(text) <= chunk {
			put(kind, 8, len(text), text)
			break
		}
		c.mu.Lock()
		if len(c.sends) >= maxTransfers {
			clear(c.sends) // of programs that have gone
		}
		c.sends[transfer{e.Requestor, prop}] = text
		c.mu.Unlock()
		xproto.ChangeWindowAttributes(conn, e.Requestor, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange})
		size := make([]byte, 4)
		xgb.Put32(size, uint32(len(text)))
		put(a["INCR"], 32, 1, size)
	default:
		prop = 0
	}
	answer := xproto.SelectionNotifyEvent{Time: e.Time, Requestor: e.Requestor, Selection: e.Selection, Target: e.Target, Property: prop}
	xproto.SendEvent(conn, false, e.Requestor, 0, string(answer.Bytes()))
}

// sendNext sends the next part of a large text; the last one is empty.
func (c *Clipboard) sendNext(conn *xgb.Conn, t transfer) {
	c.mu.Lock()
	left := c.sends[t]
	part := left[:min(len(left), chunk)]
	if len(part) == 0 {
		delete(c.sends, t)
	} else {
		c.sends[t] = left[len(part):]
	}
	kind := c.atoms["UTF8_STRING"]
	c.mu.Unlock()
	xproto.ChangeProperty(conn, xproto.PropModeReplace, t.win, t.prop, kind, 8, uint32(len(part)), part)
}

// Close disconnects. A text that Write has put on the clipboard is no longer there.
func (c *Clipboard) Close() {
	c.mu.Lock()
	conn, done := c.conn, c.done
	c.mu.Unlock()
	if conn != nil {
		conn.Close()
		<-done
	}
}

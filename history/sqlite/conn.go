package sqlite

import (
	"sync"

	"zombiezen.com/go/sqlite"
)

// closing is held for writing while a connection is closed, and for reading while one is
// opened. The library knows a connection by the address that SQLite has for it, and
// forgets what belongs to it only after SQLite has freed that (zombiezen.com/go/sqlite
// 1.4.2): another connection opened in between may get the same address, and loses its
// authorizer, functions and busy handler.
var closing sync.RWMutex

func openConn(name string, flags ...sqlite.OpenFlags) (*sqlite.Conn, error) {
	closing.RLock()
	defer closing.RUnlock()
	return sqlite.OpenConn(name, flags...)
}

func closeConn(conn *sqlite.Conn) error {
	closing.Lock()
	defer closing.Unlock()
	return conn.Close()
}

package sqlite

import "os"

// reserveSize is what the reserve takes: enough for all that is in the log to go to
// its place, and for rows to be deleted then, when the disk is full.
const reserveSize = 24 << 20

// makeReserve makes a file beside the history that dropReserve deletes when the
// disk is full: to delete rows needs room too.
func (db *DB) makeReserve() {
	name := db.path + ".reserve"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // it is there, or cannot be
	}
	giveTo(f, db.path)
	err = allocate(f, reserveSize)
	f.Close()
	if err != nil {
		os.Remove(name) // not even that much is free
	}
}

// dropReserve reports whether there was a reserve. Another file of its name stays.
func (db *DB) dropReserve() bool {
	name := db.path + ".reserve"
	info, err := os.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == reserveSize && os.Remove(name) == nil
}

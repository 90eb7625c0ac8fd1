package sqlite

import "os"

// reserveSize is the size of the reserve: enough to checkpoint the log and then to delete rows
// when the disk is full.
const reserveSize = 24 << 20

// makeReserve creates a file beside the history that dropReserve deletes when the disk is full:
// even deleting rows needs space.
func (db *DB) makeReserve() {
	name := db.path + ".reserve"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // it exists, or cannot be created
	}
	giveTo(f, db.path)
	err = allocate(f, reserveSize)
	f.Close()
	if err != nil {
		os.Remove(name) // there is too little space
	}
}

// dropReserve deletes the reserve and reports whether there was one. It keeps other files of
// that name.
func (db *DB) dropReserve() bool {
	name := db.path + ".reserve"
	info, err := os.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == reserveSize && os.Remove(name) == nil
}

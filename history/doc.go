// Package history has the values of a history of connections: what is recorded of them,
// what is asked about them and what comes of it.
// It stores nothing: [github.com/connmapgo/connmap/history/sqlite] does, in a file of SQLite.
package history

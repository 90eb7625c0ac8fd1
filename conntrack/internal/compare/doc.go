// Package compare measures package conntrack beside other ways to list the
// connections of a host. It is a module of its own, so that those who use
// conntrack do not come to depend on what it is compared with.
package compare

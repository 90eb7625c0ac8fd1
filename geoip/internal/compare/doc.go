// Package compare compares tables with other programs': what they say of random addresses, and
// how long a look-up takes. It is a module of its own, so that nobody else needs those.
package compare

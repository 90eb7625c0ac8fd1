// Package clipboard reads and writes texts on the system's clipboard.
// On Linux it speaks X11 itself, by github.com/jezek/xgb, and needs no helper program;
// elsewhere it goes the system's own way.
package clipboard

// Package clipboard reads and writes texts on the system's clipboard.
// On Linux it speaks X11 itself, with github.com/jezek/xgb, and needs no helper program;
// elsewhere it uses github.com/atotto/clipboard.
package clipboard

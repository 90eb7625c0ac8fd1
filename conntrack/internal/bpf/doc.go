// Package bpf is the kernel part of the backend ebpf: it loads programs into the Linux kernel,
// and reads what they report. It keeps no connections; package conntrack does. It alone
// imports github.com/cilium/ebpf.
//
// The programs are compiled from connmap.bpf.c to an object that is committed. Where they run,
// they need no compiler and no kernel headers, but a kernel that describes its types (BTF). One
// object serves all little-endian 64-bit processors. After a change of a C file, run go generate
// with clang 14 or later and libbpf's headers.
package bpf

//go:generate go tool bpf2go -target bpfel -go-package bpf -output-stem object -tags linux -type owner -type sock_event -type process_event -type path_event -type change -type ended -type flow_key -type flow -type payload connmap connmap.bpf.c -- -O2 -Wall -I/usr/include/x86_64-linux-gnu
//go:generate sh -c "sha256sum connmap.bpf.c kernel.h object_bpfel.o > object.sum"

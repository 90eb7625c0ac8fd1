// Package bpf is the kernel's side of the backend ebpf: programs that run in
// the Linux kernel, loaded and attached here, and what they report.
// It keeps no state of connections; package conntrack does. It alone imports
// github.com/cilium/ebpf.
//
// The programs are compiled from connmap.bpf.c to an object that is committed:
// neither a compiler nor kernel headers are needed where they run, only a
// kernel that describes its types (BTF). One object serves every little-endian
// 64-bit processor, since nothing in it depends on one. After a change of a C
// file run go generate with clang 14 or later and libbpf's headers.
package bpf

//go:generate go tool bpf2go -target bpfel -go-package bpf -output-stem object -tags linux -type owner -type sock_event -type process_event -type path_event -type change -type ended -type flow_key -type flow connmap connmap.bpf.c -- -O2 -Wall -I/usr/include/x86_64-linux-gnu
//go:generate sh -c "sha256sum connmap.bpf.c kernel.h object_bpfel.o > object.sum"

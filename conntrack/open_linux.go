package conntrack

// candidates are in the order in which Auto tries them.
var candidates = []candidate{{EBPF, openEBPF}, {Diag, openDiag}, {Proc, openProc}}

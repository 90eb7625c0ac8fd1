//go:build ignore

// The kernel programs of the backend ebpf. They report each connection of every network
// namespace as it opens and closes, with its program and its bytes.
//
// TCP is followed by the states of its sockets (inet_sock_set_state). The kernel does not
// call a program that is already running on the same processor: an interrupt in the midst of
// it may bring packets that change states of other sockets, unseen. Some kernels call no
// tracing program at all in interrupts of certain protected processes. So the first I/O or
// the close reports an open that was not seen, and tcp_destroy_sock reports such a close.
// What even that misses is found by checking which sockets still exist (the program exists).
// Other protocols have no states: their packets are counted where sockets send and receive
// them (cgroup_skb), one flow for each socket and peer. The owner is recorded where it is
// certain, in the context of a process: at connect, listen, send, receive and close. Sockets
// older than the programs are found by iterators.
//
// The state of a socket is in its socket storage and is freed with it. A child of a listener
// gets a copy of the listener's.
#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define TEXT 512		   // bytes of most paths, a power of two
#define LONG_TEXT 4096		   // of any path
#define NAME 256		   // bytes of a part of a path, with the zero at its end
#define PARTS 24		   // of most paths
#define LONG_PARTS 64
#define MOUNTS 16		   // that a path may cross
#define WAKE_AFTER 100000000ULL	   // ns
#define WAKE_AGAIN 5000000ULL	   // ns; a wake-up costs more than an event, and the reader may be slow to run
#define FLAG_PROVISIONAL 1	   // the owner is the listener's, until a process accepts
#define FLAG_HIDDEN 2		   // loopback, which the options exclude
#define FLAG_FLOWS 4		   // has or had flows
#define FLAG_ENDED 8		   // its connection has closed
#define FLAG_UNREPORTED 16	   // a flow or an open of it was not reported: the ring was full
#define MOST_NEW (1 << 15)	   // flows that a socket may open between two passes of the reader
#define IDLE_VISITS 10		   // visits without a change, after which only each tenth looks at a connection
#define EXTENSIONS 4		   // IPv6 extension headers that are skipped
#define SHORT_PAYLOAD 512	   // fewer bytes of a packet than this are reported in a short event
#define LONG_PAYLOAD 2047
#define DATAGRAM_PARTS 3	   // events of one packet of UDP
#define SEGMENT_PARTS 9		   // of TCP: a ClientHello fits in
#define MOST_PAYLOADS 4096	   // packets of a socket that are reported between two passes
#define FIRST_SEGMENTS 40	   // of a TCP connection: only in these a program names the server
#define MOST_BEFORE_TLS 512	   // bytes of a packet that asks for TLS
#define MOST_HELLO (16 << 10)	   // bytes of a ClientHello that are reported
#define MOST_REQUEST (2 << 10)	   // of a request of HTTP
#define DNS_PORT 53
#define MDNS_PORT 5353
#define LLMNR_PORT 5355

enum kind {
	OPEN = 1,     // a TCP connection opened
	CLOSE = 2,    // a TCP connection closed
	FLOW = 4,     // the first packet between a socket and a peer
	RELEASE = 5,  // a socket with flows was closed
	PROCESS = 6,  // paths of a process
	HELD = 7,     // from the iterator: a process has a file descriptor of this socket
	LISTENER = 8, // as HELD, of a listening socket
	PATH = 9,     // the executable of a process, if its path had no room in PROCESS
	REFUSED = 10, // there was no room for a flow of this socket
	PAYLOAD = 11,    // a part of a packet in which a program names a peer
};

struct owner {
	__u64 start; // of the process, boot time in ns
	char comm[16] __attribute__((aligned(8)));
	__u32 pid;
	__u32 exec; // how many programs it has executed
};

// A sock_event is a report on a socket or a flow.
struct sock_event {
	__u8 kind;
	__u8 proto;
	__u8 family;
	__u8 state;
	__u8 out; // 1: this host opened it, 2: the peer did, 0: unknown
	__u8 connected;
	__u8 unreported; // of RELEASE: the reader may not know all flows of the socket
	__u8 pad;
	__u8 local[16]; // 4 bytes if the family is AF_INET
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 uid;
	__u64 cookie;
	__u64 time;   // boot time in ns
	__u64 opened; // boot time in ns, 0: unknown
	__u64 tx, rx;
	__u32 rtt; // us
	__u32 netns;
	struct owner owner;
	__u32 primary; // PID of the owner, if owner is a holder of the socket
	__u32 device;  // index of the device of the socket, or of a flow's packet; 0: none
};

// A process_event has the paths of an executable and of a cgroup. Each path begins with its
// last part, and each part ends with a zero byte.
struct process_event {
	__u8 kind;
	__u8 pad[3];
	__u32 pid;
	__u64 start;
	__u16 exe_len;
	__u16 cgroup_len;
	__u32 exec;
	char exe[TEXT + NAME];
	char cgroup[TEXT + NAME];
};

struct path_event {
	__u8 kind;
	__u8 pad[3];
	__u32 pid;
	__u64 start;
	__u16 len;
	__u16 pad2;
	__u32 exec;
	char exe[LONG_TEXT + NAME];
};

// A change is a report on a socket that has changed since the last pass.
struct change {
	__u64 cookie;
	__u64 tx, rx;
	__u32 rtt;
	__u32 uid;
	__u8 state;
	__u8 counted; // state and counters are current
	__u8 owned;   // owner is set, and may have changed
	__u8 pad[5];
	struct owner owner;
};

// An ended has the last counters of a flow that the reader has ended.
struct ended {
	__u64 tx, rx;
	__u32 index; // in ending
	__u32 pad;
};

// A payload is a part of that of a packet. The ring has room for SHORT_PAYLOAD bytes of data, or for
// LONG_PAYLOAD.
struct payload {
	__u8 kind;
	__u8 proto;
	__u8 out;
	__u8 begins; // it is the first of a TCP connection's that may name its peer
	__u16 peer_port;
	__u16 len; // bytes of data
	__u32 seq; // of TCP, of the first byte
	__u32 uid;
	__u64 cookie;
	__u8 peer[16]; // IPv4 as ::ffff:a.b.c.d
	struct owner owner;
	char data[];
};

// Keeps the types in the object's BTF, for bpf2go.
const struct payload *unused6 __attribute__((unused));
const struct sock_event *unused1 __attribute__((unused));
const struct process_event *unused2 __attribute__((unused));
const struct path_event *unused4 __attribute__((unused));
const struct change *unused3 __attribute__((unused));
const struct ended *unused5 __attribute__((unused));

struct flow_key {
	__u64 cookie;
	__u8 peer[16]; // IPv4 as ::ffff:a.b.c.d
	__u16 peer_port;
	__u8 proto;
	__u8 pad[5];
};

struct flow {
	__u64 tx, rx;
	__u64 opened;
	__u8 local[16]; // IPv4 as ::ffff:a.b.c.d
	__u16 local_port;
	__u8 out;
	__u8 connected;
	__u32 uid;
	struct owner owner;
	__u32 pass; // in which it was last added to grown
	__u32 reported; // an event has reported it
	__u32 device;
	__u32 pad;
};

// A known is the state of a socket.
struct known {
	__u64 opened; // of the reported connection; 0: none
	__u64 tx, rx; // as last reported by a pass
	__u32 uid;    // as last reported by a pass
	__u32 owned;  // how often the owner has changed, or executed another program
	__u32 reported;   // owned, as last reported by a pass
	__u8 out;
	__u8 flags;
	__u8 state;    // as last reported by a pass
	__u8 tls_next; // it has asked its peer to go on with TLS
	__u32 moved; // the last visit with a change or I/O
	struct owner owner;
	__u32 fresh;   // flows opened in this pass
	__u32 pass;    // of the reader
	__u32 refused; // the pass in which a refused flow was last reported
	__u32 noted;   // owned, as in the map mptcp
	__u16 to_port; // the peer of the datagram that a process is sending
	__u16 want;	 // bytes that it sends next and that are reported
	__u16 payloads;	 // packets reported since payload_pass
	__u8 payload_pass; // the lowest bits of the pass
	__u8 named;	 // it has reported what names its peer, or has a proxy
	__u8 to[16];
	__u64 sender; // the task that sends it
};

struct process_key {
	__u64 start;
	__u32 pid;
	__u32 exec;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct known);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

// The keys of flows that have grown since the last pass, each once. A pass reads only these
// flows.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19); // 13,107 keys
} grown SEC(".maps");

// The keys of flows that the reader ends together.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct flow_key);
} ending SEC(".maps");

// The processes whose paths have been reported.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 13);
	__type(key, struct process_key);
	__type(value, __u8);
} processes SEC(".maps");

// The owners of MPTCP sockets, by address, for subflows that the kernel opens later.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, __u64);
	__type(value, struct owner);
} mptcp SEC(".maps");

// Counters of received SCTP associations that are not accepted. They have no socket yet: the
// cookie of a key is the local port.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 10);
	__type(key, struct flow_key);
	__type(value, __u64);
} unaccepted SEC(".maps");

// Cookies of sockets that the reader checks. The program exists removes those of sockets that
// exist, and marks those of sockets that exist but have closed.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u64);
	__type(value, __u64);
} suspects SEC(".maps");

const volatile __u8 with_loopback;
const volatile __u8 by_packet; // flows are counted by cgroup_skb
const volatile __u8 by_length; // sends and receives are seen
const volatile __u8 with_names; // what names peers is reported
const volatile __u32 wake_bytes = 1 << 18;

__u64 lost;	   // connections never reported: the ring had no room for any event
__u64 late;	   // other events without room: a pass or the close reports their content
__u64 crowded;	   // flows without room in the map; those of one socket count once a pass
__u64 woken;	   // when the reader was last woken
__u32 pass = 1;	   // of the reader over the flows
__u32 to_end;	   // entries of ending
__u32 missed;	   // grown had no room since this was cleared
__u16 test_port;   // of the self-test, which is reported although it is loopback
__u8 raw_tcp;	   // a raw socket may send TCP
__u32 visit;	   // number of the reader's visit to all sockets
__u64 present;	   // TCP connections that this visit has met
__u32 framed;	   // when a packet socket last sent, in units of 2^30 ns
__u8 framing;	   // the program queued is attached
__u64 lost_payloads;	   // packets that name peers, and found no room

static __always_inline __u64 wake(__u64 now)
{
	__u64 since = now - woken;

	if (since < WAKE_AGAIN)
		return BPF_RB_NO_WAKEUP;
	if (since < WAKE_AFTER && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < wake_bytes)
		return BPF_RB_NO_WAKEUP;
	woken = now;
	return BPF_RB_FORCE_WAKEUP;
}

// ---- processes

static __always_inline void owner_of(struct owner *o, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	o->pid = task->tgid;
	o->start = leader->start_boottime;
	o->exec = leader->self_exec_id;
	bpf_core_read(&o->comm, sizeof(o->comm), &leader->comm);
}

// put_part appends a part, of at most size bytes, to a path. It returns the new length, or 0
// if the part has no room or cannot be read.
static __always_inline __u64 put_part(char *to, __u64 size, __u64 at, const void *part)
{
	long n;

	if (at >= size)
		return 0;
	barrier_var(at); // the verifier wants to see the bound where it is used
	at &= size - 1;
	n = bpf_probe_read_kernel_str(to + at, NAME, part);
	return n > 0 ? at + n : 0;
}

// path_parts writes the path of a file and its length, 0 if it has no room. It reads the
// length anew for each part. Otherwise the verifier would check each number of parts and
// mounts as a state of its own.
static __always_inline void path_parts(char *to, __u64 size, int parts, struct file *file, volatile __u16 *len)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mnt = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
	__u64 next;

	*len = 0;
	for (int i = 0; i < parts + MOUNTS; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		// A file in memory has a name, but no directory.
		if (!i && dentry == parent && dentry != BPF_CORE_READ(mnt, mnt.mnt_root)) {
			*len = put_part(to, size, 0, BPF_CORE_READ(dentry, d_name.name));
			return;
		}
		if (dentry == parent || dentry == BPF_CORE_READ(mnt, mnt.mnt_root)) {
			struct mount *up = BPF_CORE_READ(mnt, mnt_parent);

			if (up == mnt || !up)
				return;
			dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			mnt = up;
			continue;
		}
		next = put_part(to, size, *len, BPF_CORE_READ(dentry, d_name.name));
		if (!next)
			break;
		*len = next;
		dentry = parent;
	}
	*len = 0;
}

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *kn)
{
	if (bpf_core_field_exists(kn->__parent))
		return BPF_CORE_READ(kn, __parent);
	return (void *)BPF_CORE_READ((struct kernfs_node___old *)kn, parent);
}

// cgroup_parts writes the path of a process's cgroup, or the end of the path, and returns
// its length.
// If all processes are in the root of the unified hierarchy, as on systems that still use
// version 1, it is the path of the memory controller's cgroup.
static __always_inline __u16 cgroup_parts(char *to, struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct kernfs_node *kn = BPF_CORE_READ(set, dfl_cgrp, kn), *parent = parent_of(kn);
	__u64 at = 0, next;

	if (!parent && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
		struct cgroup_subsys_state *css = 0;
		__u32 id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + bpf_core_field_offset(struct css_set, subsys) + id * sizeof(css));
		kn = BPF_CORE_READ(css, cgroup, kn);
		parent = parent_of(kn);
	}
	for (int i = 0; i < PARTS && parent; i++) {
		next = put_part(to, TEXT, at, BPF_CORE_READ(kn, name));
		if (!next)
			break;
		at = next;
		kn = parent;
		parent = parent_of(kn);
	}
	return at;
}

// report_path reports the path of the current process's executable, if it had no room in a
// process_event. If it has no room here either, the reader looks in /proc. This and
// report_process are global functions: the verifier checks them once, and not for each
// call.
__noinline int report_path(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct path_event *e;
	struct mm_struct *mm;
	struct file *exe;

	mm = task->mm;
	if (!mm)
		return 0;
	exe = mm->exe_file;
	if (!exe)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->kind = PATH;
	e->pid = task->tgid;
	e->start = task->group_leader->start_boottime;
	e->exec = task->group_leader->self_exec_id;
	path_parts(e->exe, LONG_TEXT, LONG_PARTS, exe, &e->len);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

// report_process reports the paths of the current process, once. Those of a process that is
// exiting, and has no memory any more, are unknown.
__noinline int report_process(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process_key key = {};
	struct process_event *e;
	struct mm_struct *mm;
	struct file *exe;
	__u8 reported = 1;

	mm = task->mm;
	if (!mm)
		return 0;
	key.pid = task->tgid;
	key.start = task->group_leader->start_boottime;
	key.exec = task->group_leader->self_exec_id;
	exe = mm->exe_file;
	if (!exe || bpf_map_lookup_elem(&processes, &key))
		return 0;
	// Without room it is reported the next time; meanwhile the reader looks in /proc.
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->kind = PROCESS;
	e->pid = key.pid;
	e->start = key.start;
	e->exec = key.exec;
	path_parts(e->exe, TEXT, PARTS, exe, &e->exe_len);
	if (!*(volatile __u16 *)&e->exe_len)
		report_path();
	e->cgroup_len = cgroup_parts(e->cgroup, task);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&processes, &key, &reported, BPF_ANY);
	return 0;
}

// ---- sockets

// known_of returns the state of a socket, and creates it if there is none.
static __always_inline struct known *known_of(void *sk)
{
	struct known *k = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	// That fails if another processor creates it at the same time, as for a pass.
	return k ? k : bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline int loopback4(__be32 a)
{
	return (a & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

static __always_inline int loopback16(const __u8 *a)
{
	const __u32 *w = (const void *)a;

	if (w[0] || w[1])
		return 0;
	return w[2] ? w[2] == bpf_htonl(0xffff) && loopback4(w[3]) : w[3] == bpf_htonl(1);
}

// A socket that is reached through another's memory, as the first subflow of an MPTCP
// socket, is a pointer that the verifier does not trust. It is read field by field, and its
// storage cannot be reached.
#define GET(sk, raw, field) ((raw) ? BPF_CORE_READ(sk, field) : (sk)->field)

// is_tcp returns false for raw sockets that send TCP.
static __always_inline int is_tcp(struct sock *sk, int raw)
{
	return GET(sk, raw, sk_protocol) == IPPROTO_TCP && GET(sk, raw, sk_type) != SOCK_RAW;
}

static __always_inline __u16 local_port(struct sock *sk)
{
	// skc_num is zero when the socket has closed.
	return BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
}

static __always_inline struct tcp_sock *tcp_of(struct sock *sk, int raw)
{
	return raw ? (struct tcp_sock *)sk : bpf_skc_to_tcp_sock(sk);
}

static __always_inline __u64 cookie_of(struct sock *sk, int raw)
{
	return raw ? BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) : bpf_get_socket_cookie(sk);
}

static __always_inline void addresses(struct sock_event *e, struct sock *sk, int raw)
{
	e->family = GET(sk, raw, __sk_common.skc_family);
	if (e->family == AF_INET) {
		*(__be32 *)e->local = GET(sk, raw, __sk_common.skc_rcv_saddr);
		*(__be32 *)e->peer = GET(sk, raw, __sk_common.skc_daddr);
	} else {
		bpf_core_read(e->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(e->peer, 16, &sk->__sk_common.skc_v6_daddr);
	}
	e->peer_port = GET(sk, raw, __sk_common.skc_dport);
	e->device = GET(sk, raw, __sk_common.skc_bound_dev_if);
}

static __always_inline void read_counters(__u64 *tx, __u64 *rx, __u32 *rtt, struct sock *sk, struct tcp_sock *tp, int raw)
{
	__u64 sent, again, got;

	sent = GET(tp, raw, bytes_sent);
	again = GET(tp, raw, bytes_retrans);
	got = GET(tp, raw, bytes_received);
	// The peer's FIN counts as a byte.
	if (got && GET(sk, raw, __sk_common.skc_flags) & (1 << SOCK_DONE))
		got--;
	*tx = sent > again ? sent - again : 0;
	*rx = got;
	*rtt = GET(tp, raw, srtt_us) >> 3;
}

static __always_inline void describe(struct sock_event *e, struct sock *sk, int raw, struct known *k, __u8 kind, __u8 state, __u64 now)
{
	struct tcp_sock *tp;

	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->proto = GET(sk, raw, sk_protocol);
	e->state = state;
	e->out = k->out;
	addresses(e, sk, raw);
	e->uid = GET(sk, raw, sk_uid.val);
	e->cookie = cookie_of(sk, raw);
	e->time = now;
	e->opened = raw ? 0 : k->opened;
	tp = is_tcp(sk, raw) ? tcp_of(sk, raw) : 0;
	if (tp) {
		e->local_port = GET(tp, raw, inet_conn.icsk_inet.inet_sport);
		read_counters(&e->tx, &e->rx, &e->rtt, sk, tp, raw);
	} else {
		e->local_port = local_port(sk);
	}
	e->netns = raw ? BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) : sk->__sk_common.skc_net.net->ns.inum;
	e->owner = k->owner;
}

// report_sock reports a socket, and returns whether there was room.
static __always_inline int report_sock(struct sock *sk, struct known *k, __u8 kind, __u8 state, __u64 now)
{
	struct sock_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	describe(e, sk, 0, k, kind, state, now);
	bpf_ringbuf_submit(e, wake(e->time));
	return 1;
}

// report_socket reports only the cookie and the owner of a socket.
static __noinline int report_socket(__u64 cookie, struct known *k, __u8 kind, __u8 proto)
{
	struct sock_event *e;

	if (!k)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&late, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->proto = proto;
	e->cookie = cookie;
	e->unreported = (k->flags & FLAG_UNREPORTED) != 0;
	e->time = bpf_ktime_get_boot_ns();
	e->owner = k->owner;
	bpf_ringbuf_submit(e, wake(e->time));
	return 0;
}

static __always_inline int hidden(struct sock *sk, int raw)
{
	__u16 port;
	__u8 a[16];

	if (with_loopback)
		return 0;
	port = GET(sk, raw, __sk_common.skc_dport);
	if (test_port && (port == test_port || local_port(sk) == test_port))
		return 0;
	if (GET(sk, raw, __sk_common.skc_family) == AF_INET)
		return loopback4(GET(sk, raw, __sk_common.skc_daddr));
	bpf_core_read(a, 16, &sk->__sk_common.skc_v6_daddr);
	return loopback16(a);
}

static __always_inline void opens(struct sock *sk, struct known *k, __u8 state)
{
	k->opened = bpf_ktime_get_boot_ns();
	k->flags &= ~(FLAG_HIDDEN | FLAG_ENDED | FLAG_UNREPORTED);
	k->tx = k->rx = 0;
	k->state = 0;
	if (hidden(sk, 0)) {
		k->flags |= FLAG_HIDDEN;
	} else if (!report_sock(sk, k, OPEN, state, k->opened)) {
		k->flags |= FLAG_UNREPORTED;
		__sync_fetch_and_add(&late, 1);
	}
}

static __always_inline void ends(struct sock *sk, struct known *k, __u8 state)
{
	if (!(k->flags & FLAG_HIDDEN) && !report_sock(sk, k, CLOSE, state, bpf_ktime_get_boot_ns()))
		__sync_fetch_and_add(k->flags & FLAG_UNREPORTED ? &lost : &late, 1);
	k->opened = 0;
	k->flags |= FLAG_ENDED;
}

static __always_inline int is_subflow(struct tcp_sock *tp)
{
	return tp && bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp;
}

// of_kernel returns whether the kernel opened a socket for itself, as for a network file
// system. It also opens subflows of MPTCP, which belong to the process with the MPTCP socket.
static __always_inline int of_kernel(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) && !is_subflow(bpf_skc_to_tcp_sock(sk));
}

// kernel_owns makes the kernel the owner, which has a name but no process.
static __always_inline void kernel_owns(struct known *k)
{
	if (k->owner.comm[0] && !k->owner.pid)
		return;
	__builtin_memset(&k->owner, 0, sizeof(k->owner));
	__builtin_memcpy(k->owner.comm, "kernel", 7);
	k->flags &= ~FLAG_PROVISIONAL;
	k->owned++;
}

// owned makes the current process the owner, with its present name. The next pass reports a
// change. Without sk, the socket is not the kernel's.
static __always_inline void owned(struct known *k, struct sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf(), *leader = task->group_leader;
	__u64 comm[2];

	if (!task->mm) {
		// A kernel thread works for somebody else, unless the socket is the kernel's.
		if (sk && of_kernel(sk))
			kernel_owns(k);
		return;
	}
	bpf_core_read(&comm, sizeof(comm), &leader->comm);
	if (k->owner.pid == task->tgid && k->owner.exec == (__u32)leader->self_exec_id &&
	    ((__u64 *)k->owner.comm)[0] == comm[0] && ((__u64 *)k->owner.comm)[1] == comm[1]) {
		k->flags &= ~FLAG_PROVISIONAL;
		return;
	}
	// A file system may send in the context of the process that uses it.
	if (sk && k->owner.comm[0] && !k->owner.pid && of_kernel(sk))
		return;
	k->flags &= ~FLAG_PROVISIONAL;
	owner_of(&k->owner, task);
	report_process();
	k->owned++;
}

// mptcp_of returns the address of the MPTCP socket of a subflow; 0: it is not a subflow.
static __always_inline __u64 mptcp_of(struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct mptcp_subflow_context *subflow;

	if (!is_subflow(tp))
		return 0;
	subflow = tp->inet_conn.icsk_ulp_data;
	return (__u64)BPF_CORE_READ(subflow, conn);
}

// note_mptcp records the owner of an MPTCP socket.
static __always_inline void note_mptcp(__u64 mp, struct known *k)
{
	bpf_map_update_elem(&mptcp, &mp, &k->owner, BPF_ANY);
	k->noted = k->owned;
}

// joins gives a subflow the owner of its MPTCP socket, if that is known.
static __always_inline void joins(struct sock *sk, struct known *k)
{
	__u64 mp = mptcp_of(sk);
	struct owner *o = mp ? bpf_map_lookup_elem(&mptcp, &mp) : 0;

	if (!o)
		return;
	k->owner = *o;
	k->flags &= ~FLAG_PROVISIONAL;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, struct sock *sk, int old, int state)
{
	struct known *k;
	__u64 mp;

	if (sk->sk_protocol != IPPROTO_TCP) {
		// The address may be that of an earlier MPTCP socket: its subflows close after it. One
		// that is accepted is established at once since Linux 6.7.
		if (sk->sk_protocol == IPPROTO_MPTCP && (state == BPF_TCP_SYN_RECV || (state == BPF_TCP_ESTABLISHED && old != BPF_TCP_SYN_SENT))) {
			mp = (__u64)sk;
			bpf_map_delete_elem(&mptcp, &mp);
		}
		return 0;
	}
	switch (state) {
	case BPF_TCP_SYN_SENT:
	case BPF_TCP_LISTEN:
		k = known_of(sk);
		if (!k)
			return 0;
		k->out = state == BPF_TCP_SYN_SENT ? 1 : 2;
		k->opened = 0;
		k->want = 0;
		k->named = k->tls_next = 0;
		k->flags &= ~FLAG_ENDED;
		owned(k, sk);
		if (state == BPF_TCP_LISTEN) {
			k->flags |= FLAG_PROVISIONAL; // for its children
		} else if (!k->owner.pid) {
			joins(sk, k);
		} else {
			mp = mptcp_of(sk);
			if (mp)
				note_mptcp(mp, k);
		}
		return 0;
	case BPF_TCP_SYN_RECV:
		if (old == BPF_TCP_SYN_SENT)
			return 0; // both ends connect at once
		// From now on the storage is the child's own copy.
		k = known_of(sk);
		if (!k)
			return 0;
		k->out = 2;
		k->opened = 0;
		k->flags = FLAG_PROVISIONAL;
		return 0;
	case BPF_TCP_ESTABLISHED:
		k = known_of(sk);
		if (!k) {
			__sync_fetch_and_add(&lost, 1);
			return 0;
		}
		if (k->flags & FLAG_PROVISIONAL)
			joins(sk, k);
		opens(sk, k, state);
		return 0;
	case BPF_TCP_FIN_WAIT1:
	case BPF_TCP_LAST_ACK:
		// A process that closes holds the socket, but only one that sends or receives owns it.
		k = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (!k)
			return 0;
		joins(sk, k);
		if (k->flags & FLAG_PROVISIONAL && bpf_get_current_pid_tgid() >> 32)
			owned(k, sk);
		return 0;
	case BPF_TCP_CLOSE:
		k = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (!k || k->flags & FLAG_ENDED)
			return 0;
		joins(sk, k);
		if (!k->opened) {
			if (old == BPF_TCP_SYN_SENT || old == BPF_TCP_SYN_RECV || old == BPF_TCP_LISTEN || old == BPF_TCP_CLOSE)
				return 0;
			opens(sk, k, old);
		}
		ends(sk, k, old);
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroyed, struct sock *sk)
{
	struct known *k = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (k && k->opened)
		ends(sk, k, BPF_TCP_CLOSE);
	return 0;
}

static __always_inline void to16(__u8 *to, int family, const void *from)
{
	if (family == AF_INET) {
		__u32 *w = (void *)to;
		w[0] = w[1] = 0;
		w[2] = bpf_htonl(0xffff);
		w[3] = *(const __u32 *)from;
	} else {
		__builtin_memcpy(to, from, 16);
	}
}

// A packet is what is counted of one packet.
struct packet {
	struct flow_key key;
	__u8 local[16];
	__u16 local_port;
	__u8 out;
	__u8 opener; // flow.out, if it opens one
	__u8 connected;
	__u8 counted_only; // does not open a flow
	__u8 last;	   // after it there is no association of SCTP any more
	__u32 uid;
	__u32 device;
	__u64 tx, rx;
};

static __noinline int report_flow(struct packet *p, struct flow *f)
{
	struct sock_event *e;

	if (!p || !f)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = FLOW;
	e->proto = p->key.proto;
	e->family = AF_INET6;
	e->out = f->out;
	e->connected = f->connected;
	__builtin_memcpy(e->local, p->local, 16);
	__builtin_memcpy(e->peer, p->key.peer, 16);
	e->local_port = p->local_port;
	e->peer_port = p->key.peer_port;
	e->uid = p->uid;
	e->cookie = p->key.cookie;
	e->time = e->opened = f->opened;
	e->tx = f->tx;
	e->rx = f->rx;
	e->owner = f->owner;
	e->device = f->device;
	bpf_ringbuf_submit(e, wake(e->time));
	return 1;
}

static __noinline int report_grown(struct flow_key *key)
{
	if (key && bpf_ringbuf_output(&grown, key, sizeof(*key), BPF_RB_NO_WAKEUP))
		missed = 1;
	return 0;
}

// crowds returns whether a socket has opened as many flows as it may before the reader's next
// pass, in which the reader ends those in excess. So a socket cannot fill the map
// alone.
static __always_inline int crowds(struct known *k)
{
	if (k->pass != pass) {
		k->pass = pass;
		k->fresh = 0;
	}
	return ++k->fresh > MOST_NEW;
}

static __always_inline void refuse(struct packet *p, struct known *k)
{
	if (k->refused == pass)
		return;
	k->refused = pass;
	__sync_fetch_and_add(&crowded, 1);
	report_socket(p->key.cookie, k, REFUSED, p->key.proto);
}

// count adds a packet to its flow, and creates the flow if it is new.
static __always_inline void count(struct packet *p, struct known *k)
{
	struct flow *f = bpf_map_lookup_elem(&flows, &p->key);

	if (!f) {
		struct flow fresh = {};

		if (p->counted_only)
			return;
		if (crowds(k))
			return refuse(p, k);
		fresh.opened = bpf_ktime_get_boot_ns();
		__builtin_memcpy(fresh.local, p->local, 16);
		fresh.local_port = p->local_port;
		fresh.out = p->opener;
		fresh.connected = p->connected;
		fresh.uid = p->uid;
		fresh.device = p->device;
		fresh.owner = k->owner;
		fresh.tx = p->tx;
		fresh.rx = p->rx;
		k->flags |= FLAG_FLOWS;
		// A flood of flows must leave room for others: the next pass finds this one.
		fresh.reported = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2;
		if (!bpf_map_update_elem(&flows, &p->key, &fresh, BPF_NOEXIST)) {
			if (fresh.reported && report_flow(p, &fresh))
				return;
			k->flags |= FLAG_UNREPORTED;
			f = bpf_map_lookup_elem(&flows, &p->key);
			if (f)
				f->reported = 0;
			report_grown(&p->key);
			return;
		}
		// Another processor was faster, or there was no room.
		f = bpf_map_lookup_elem(&flows, &p->key);
		if (!f)
			return refuse(p, k);
	}
	// An answer to another socket's packets, of which a raw socket gets a copy.
	if (p->counted_only && f->local_port != p->local_port)
		return;
	if (p->tx)
		__sync_fetch_and_add(&f->tx, p->tx);
	if (p->rx)
		__sync_fetch_and_add(&f->rx, p->rx);
	if (f->pass != pass) {
		f->pass = pass;
		report_grown(&p->key);
	}
}

// frames records that a packet socket sends, and creates the cookie of the socket, which the
// program queued can only read.
static __always_inline void frames(struct sock *sk)
{
	struct known *k = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u32 now = bpf_ktime_get_boot_ns() >> 30;
	void *nothing;

	if (k)
		k->sender = 0; // what it sends next may have the same address
	bpf_get_socket_cookie(sk);
	if (framed == now)
		return;
	framed = now;
	if (framing)
		return;
	nothing = bpf_ringbuf_reserve(&events, 8, 0);
	if (nothing)
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
}

// io is called in the context of the process that sends or receives.
static __noinline int io(struct sock *sk, int n, __u8 out)
{
	__u16 family = sk->__sk_common.skc_family;
	struct known *k;
	int state;

	if (n < 0)
		return 0;
	if (family != AF_INET && family != AF_INET6) {
		if (family == AF_PACKET && out == 1)
			frames(sk);
		return 0;
	}
	if (sk->sk_protocol == IPPROTO_MPTCP) {
		// The connection is its first subflow; the owner is recorded here.
		k = known_of(sk);
		if (!k)
			return 0;
		owned(k, 0);
		if (k->noted != k->owned)
			note_mptcp((__u64)sk, k);
		if (!k->opened)
			k->opened = bpf_ktime_get_boot_ns();
		return 0;
	}
	state = sk->__sk_common.skc_state;
	if (is_tcp(sk, 0)) {
		k = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (!k || (!k->opened && !(k->flags & (FLAG_ENDED | FLAG_HIDDEN)))) {
			// It is older than the programs and accepted since, or its open was not seen.
			if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT)
				return 0;
			k = known_of(sk);
			if (!k)
				return 0;
			owned(k, sk);
			opens(sk, k, state);
			return 0;
		}
	} else {
		k = known_of(sk);
		if (!k)
			return 0;
	}
	owned(k, sk);
	if (k->moved != visit)
		k->moved = visit;
	if (!by_packet && sk->sk_protocol == IPPROTO_UDP && state == BPF_TCP_ESTABLISHED) {
		struct packet p = {};

		if (hidden(sk, 0))
			return 0;
		p.key.cookie = bpf_get_socket_cookie(sk);
		p.key.proto = IPPROTO_UDP;
		p.key.peer_port = sk->__sk_common.skc_dport;
		p.local_port = local_port(sk);
		if (family == AF_INET) {
			__be32 a = sk->__sk_common.skc_daddr;
			to16(p.key.peer, family, &a);
			a = sk->__sk_common.skc_rcv_saddr;
			to16(p.local, family, &a);
		} else {
			bpf_core_read(p.key.peer, 16, &sk->__sk_common.skc_v6_daddr);
			bpf_core_read(p.local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		}
		p.out = p.opener = out;
		p.connected = 1;
		p.uid = sk->sk_uid.val;
		p.device = sk->__sk_common.skc_bound_dev_if;
		if (out == 1)
			p.tx = n;
		else
			p.rx = n;
		count(&p, k);
	}
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(send_length, struct sock *sk, int n, int flags)
{
	return io(sk, n, 1);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(recv_length, struct sock *sk, int n, int flags)
{
	return flags & MSG_PEEK ? 0 : io(sk, n, 2);
}

// Kernels without these tracepoints report the same at the end of these functions.

SEC("fexit/inet_sendmsg")
int BPF_PROG(sent4, struct socket *socket, void *msg, __u64 size, int n)
{
	return io(socket->sk, n, 1);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(sent6, struct socket *socket, void *msg, __u64 size, int n)
{
	return io(socket->sk, n, 1);
}

SEC("fexit/inet_recvmsg")
int BPF_PROG(received4, struct socket *socket, void *msg, __u64 size, int flags, int n)
{
	return flags & MSG_PEEK ? 0 : io(socket->sk, n, 2);
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(received6, struct socket *socket, void *msg, __u64 size, int flags, int n)
{
	return flags & MSG_PEEK ? 0 : io(socket->sk, n, 2);
}

// ---- packets

// as_seen_by sets the addresses of a datagram to those that its socket has. Sent packets have
// already passed this host's address translation.
static __always_inline void as_seen_by(struct packet *p, struct __sk_buff *skb, struct bpf_sock *sk, struct known *k, __u8 out)
{
	p->local_port = bpf_htons(sk->src_port);
	if (sk->state == BPF_TCP_ESTABLISHED) {
		p->key.peer_port = sk->dst_port;
		if (sk->family == AF_INET) {
			__be32 a = sk->dst_ip4;
			to16(p->key.peer, AF_INET, &a);
			a = sk->src_ip4;
			to16(p->local, AF_INET, &a);
		} else {
			__u32 *peer = (void *)p->key.peer, *local = (void *)p->local;
			peer[0] = sk->dst_ip6[0];
			peer[1] = sk->dst_ip6[1];
			peer[2] = sk->dst_ip6[2];
			peer[3] = sk->dst_ip6[3];
			local[0] = sk->src_ip6[0];
			local[1] = sk->src_ip6[1];
			local[2] = sk->src_ip6[2];
			local[3] = sk->src_ip6[3];
		}
	} else if (out == 1 && k->sender == bpf_get_current_task()) {
		__builtin_memcpy(p->key.peer, k->to, 16);
		p->key.peer_port = k->to_port;
	}
}

// ends_of reads the two addresses of a packet from its IP header.
static __always_inline void ends_of(struct packet *p, const __u8 *ip, int v4, __u8 out)
{
	if (v4) {
		to16(p->local, AF_INET, ip + (out == 1 ? 12 : 16));
		to16(p->key.peer, AF_INET, ip + (out == 1 ? 16 : 12));
	} else {
		__builtin_memcpy(p->local, ip + (out == 1 ? 8 : 24), 16);
		__builtin_memcpy(p->key.peer, ip + (out == 1 ? 24 : 8), 16);
	}
}

static __always_inline int has_ports(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE || proto == IPPROTO_SCTP || proto == IPPROTO_TCP;
}

// header_of returns the length of the header that is not payload. TCP and ICMP headers are
// payload, since a raw socket sends them.
static __always_inline __u32 header_of(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE ? 8 : proto == IPPROTO_SCTP ? 12 : 0;
}

// sctp reads the first chunk of a packet, and returns 0 if the packet is not the socket's
// own. A socket that listens in the style of TCP hands each association to a new socket,
// which has only that one.
static __always_inline int sctp(struct packet *p, struct bpf_sock *sk, __u8 chunk)
{
	__u8 one = sk->type == SOCK_STREAM;
	struct flow_key key = p->key;
	__u64 *received, rx = 0;

	switch (chunk) {
	case SCTP_DATA:
	case SCTP_SACK:
	case SCTP_I_DATA:
		p->opener = one ? 2 : 0; // whoever connects has sent a cookie before
		break;
	case SCTP_COOKIE_ECHO:
		break;
	case SCTP_COOKIE_ACK:
		p->opener = 3 - p->out;
		break;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN_COMPLETE:
		p->last = one;
	default:
		p->counted_only = 1;
	}
	if (!one)
		return 1;
	p->connected = 1;
	key.cookie = p->local_port;
	received = bpf_map_lookup_elem(&unaccepted, &key);
	if (received)
		rx = *received;
	if (sk->state == BPF_TCP_LISTEN) {
		rx += p->rx;
		if (p->last)
			bpf_map_delete_elem(&unaccepted, &key);
		else if (p->rx && !p->counted_only)
			bpf_map_update_elem(&unaccepted, &key, &rx, BPF_ANY);
		return 0;
	}
	if (received && p->opener == 2 && !p->counted_only) {
		bpf_map_delete_elem(&unaccepted, &key);
		p->rx += rx;
	}
	return 1;
}

// ---- names

// KNOWN_UP_TO shows the verifier that a number is from 1 to a power of two, which the compiler knows.
// That it is not zero the verifier of Linux 6.1 does not learn from a comparison.
#define KNOWN_UP_TO(n, power)                 \
	do {                                  \
		n -= 1;                       \
		asm volatile("" : "+r"(n));   \
		n &= (power)-1;               \
		n += 1;                       \
	} while (0)

// may_report_payload returns whether another packet of a socket may be reported, and counts it.
// Events on connections go first: they have half of the ring for themselves.
static __always_inline int may_report_payload(struct known *k)
{
	if (k->payload_pass != (__u8)pass) {
		k->payload_pass = pass;
		k->payloads = 0;
	}
	if (k->payloads >= MOST_PAYLOADS || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2) {
		__sync_fetch_and_add(&lost_payloads, 1);
		return 0;
	}
	k->payloads++;
	return 1;
}

// A piece is a part of a packet: len bytes from at on, and the sequence number of the first.
struct piece {
	__u32 at, len, seq;
	__u8 begins; // see payload
};

// payload_head sets what stands before the data.
static __always_inline void payload_head(struct payload *e, struct __sk_buff *skb, struct packet *p, struct known *k, struct piece *s, __u32 len)
{
	e->kind = PAYLOAD;
	e->proto = p->key.proto;
	e->out = p->out;
	e->begins = s->begins;
	e->peer_port = p->key.peer_port;
	e->len = len;
	e->seq = s->seq;
	e->uid = bpf_get_socket_uid(skb);
	e->cookie = bpf_get_socket_cookie(skb);
	__builtin_memcpy(e->peer, p->key.peer, 16);
	e->owner = k->owner;
}

// report_payload reports a piece of a packet.
static __noinline int report_payload(struct __sk_buff *skb, struct packet *p, struct known *k, struct piece *s)
{
	struct payload *e;
	__u32 len;

	if (!p || !k || !s)
		return 0;
	len = s->len;
	if (!len)
		return 0;
	if (len < SHORT_PAYLOAD) {
		KNOWN_UP_TO(len, SHORT_PAYLOAD);
		e = bpf_ringbuf_reserve(&events, sizeof(*e) + SHORT_PAYLOAD, 0);
		if (!e)
			goto lost_payloads;
		if (bpf_skb_load_bytes(skb, s->at, e->data, len)) {
			bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
			return 0;
		}
	} else {
		if (len > LONG_PAYLOAD)
			len = LONG_PAYLOAD;
		KNOWN_UP_TO(len, LONG_PAYLOAD + 1);
		e = bpf_ringbuf_reserve(&events, sizeof(*e) + LONG_PAYLOAD + 1, 0);
		if (!e)
			goto lost_payloads;
		if (bpf_skb_load_bytes(skb, s->at, e->data, len)) {
			bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
			return 0;
		}
	}
	payload_head(e, skb, p, k, s, len);
	bpf_ringbuf_submit(e, wake(bpf_ktime_get_boot_ns()));
	return 1;
lost_payloads:
	__sync_fetch_and_add(&lost_payloads, 1);
	return 0;
}

// What the first bytes of a TCP connection tell.
enum beginning {
	NO_NAME,
	REQUEST, // of HTTP, to a server
	HELLO,	 // of TLS
	PROXY,	 // to a proxy, for another peer
};

#define MOST_METHOD 20 // letters of a method of HTTP
#define FIRST_BYTES 32 // of a connection that are looked at

// request returns what n bytes begin, if that is a request: a word of capital letters, and what
// stands behind it.
static __always_inline int request(const __u8 *b, __u32 n)
{
	// Linux 6.1 refuses some loops, by how they are compiled.
#pragma clang loop unroll(full)
	for (int i = 0; i <= MOST_METHOD; i++) {
		if (i >= n)
			return REQUEST; // as far as it goes
		if ((b[i] >= 'A' && b[i] <= 'Z') || ((b[i] == '-' || b[i] == '_') && i))
			continue;
		if (b[i] != ' ' || i < 3)
			return NO_NAME;
		if (b[0] == 'C' && b[1] == 'O' && b[2] == 'N' && b[3] == 'N')
			return PROXY;
		if (i + 1 >= n || b[i + 1] == '/' || b[i + 1] == '*')
			return REQUEST;
		return b[i + 1] == 'h' && b[i + 2] == 't' && b[i + 3] == 't' ? PROXY : NO_NAME;
	}
	return NO_NAME;
}

// hello returns whether n bytes begin a record of TLS with a ClientHello.
static __always_inline int hello(const __u8 *b, __u32 n)
{
	return b[0] == 22 && (n < 2 || b[1] == 3) && (n < 6 || b[5] == 1);
}

// beginning returns what n bytes begin, at most FIRST_BYTES; the others are 0.
static __always_inline int beginning(const __u8 *b, __u32 n)
{
	if (hello(b, n))
		return HELLO;
	// SOCKS 5, which begins with a list of methods, and 4, with a command.
	if ((b[0] == 5 && n >= 2 && b[1] == n - 2) || (b[0] == 4 && n >= 9 && (b[1] == 1 || b[1] == 2)))
		return PROXY;
	return request(b, n);
}

// asks_for_tls returns whether a packet, whose first bytes b has, asks the peer to go on with TLS: by
// a line as STARTTLS, STLS or AUTH TLS of mail and files, in XMPP or LDAP, or in the way of
// PostgreSQL, MySQL or RDP. left bytes stand from at on.
static __always_inline int asks_for_tls(struct __sk_buff *skb, const __u8 *b, __u32 at, __u32 left)
{
	__u8 t[6];

	if (left == 8 && b[3] == 8 && b[4] == 0x04 && b[5] == 0xd2 && b[6] == 0x16 && b[7] == 0x2f)
		return 1;
	if (left == 36 && b[0] == 32 && b[3] == 1 && (b[5] & 8))
		return 1;
	if (b[0] == 3 && b[1] == 0 && b[5] == 0xe0)
		return 1;
	if (left < sizeof(t) || left > MOST_BEFORE_TLS || bpf_skb_load_bytes(skb, at + left - sizeof(t), t, sizeof(t)))
		return 0;
#define IS(i, c) ((t[i] | 0x20) == c)
	if (t[5] == '\n') {
		if (t[4] == '\r')
			return (IS(3, 's') && IS(2, 'l') && IS(1, 't')) || (IS(3, 'l') && IS(2, 's') && IS(1, 's'));
		return (IS(4, 's') && IS(3, 'l') && IS(2, 't')) || (IS(4, 'l') && IS(3, 's') && IS(2, 's'));
	}
	if (t[5] == '>')
		return (IS(0, 't') && IS(1, 'l') && IS(2, 's') && t[4] == '/') || (IS(2, 't') && IS(3, 'l') && IS(4, 's'));
#undef IS
	return t[1] == '2' && t[2] == '0' && t[3] == '0' && t[4] == '3' && t[5] == '7';
}

// wanted returns how many bytes of a ClientHello are to be reported that begins with n bytes, at most
// FIRST_BYTES; the others are 0.
static __always_inline __u32 wanted(const __u8 *b, __u32 n)
{
	__u32 record = b[3] << 8 | b[4];
	__u32 len = b[6] << 16 | b[7] << 8 | b[8];

	// The message may be split over records too, each with a header.
	if (n < 9 || record < len + 4)
		return record < 4 || len <= MOST_HELLO ? MOST_HELLO : 0;
	return len > MOST_HELLO ? 0 : len + 9;
}

// tcp_names reports what in a TCP packet may name the peer: a question or an answer of DNS, or
// the beginning of a connection with TLS or HTTP.
static __always_inline void tcp_names(struct __sk_buff *skb, __u8 out, const __u8 *ip, int v4)
{
	struct bpf_sock *sk = skb->sk;
	struct packet p = {};
	struct piece piece = {};
	struct bpf_tcp_sock *tp;
	struct known *k;
	__u32 at, left, seq, n, earlier = 0;
	__u8 first[FIRST_BYTES] = {};
	__u8 offset;
	int dns;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	dns = sk->dst_port == bpf_htons(DNS_PORT);
	if (!dns) {
		if (out != 1)
			return;
		tp = bpf_tcp_sock(sk);
		if (!tp || tp->data_segs_out > FIRST_SEGMENTS)
			return;
		// The segments of this packet count already.
		earlier = tp->data_segs_out - (skb->gso_segs ? skb->gso_segs : 1);
	}
	at = v4 ? (ip[0] & 15) * 4 : 40;
	if (bpf_skb_load_bytes(skb, at + 12, &offset, 1))
		return;
	if (bpf_skb_load_bytes(skb, at + 4, &seq, 4))
		return;
	at += (offset >> 4) * 4;
	if (skb->len <= at)
		return;
	left = skb->len - at;
	k = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!k || (!dns && (k->flags & FLAG_HIDDEN || k->out == 2)))
		return;
	if (!k->want) {
		if (k->named)
			return;
		if (dns) {
			k->want = MOST_HELLO;
		} else {
			n = left < FIRST_BYTES ? left : FIRST_BYTES;
			KNOWN_UP_TO(n, FIRST_BYTES);
			if (bpf_skb_load_bytes(skb, at, first, n))
				return;
			if (earlier) {
				// What looks so in other data that are sent is not for the peer.
				if (k->tls_next && n >= 9 && hello(first, n))
					k->want = wanted(first, n);
			} else {
				switch (beginning(first, n)) {
				case REQUEST:
					k->want = MOST_REQUEST;
					break;
				case HELLO:
					k->want = wanted(first, n);
					break;
				case PROXY:
					k->named = 1;
				}
			}
			if (!k->want) {
				k->tls_next = asks_for_tls(skb, first, at, left);
				return;
			}
		}
		piece.begins = 1;
	}
	if (!may_report_payload(k))
		return;
	if (left >= k->want) {
		left = k->want;
		k->named = 1;
	}
	k->want -= left;
	ends_of(&p, ip, v4, out);
	p.key.proto = IPPROTO_TCP;
	p.out = out;
	p.key.peer_port = sk->dst_port;
	piece.at = at;
	piece.seq = bpf_ntohl(seq);
	for (int i = 0; i < SEGMENT_PARTS; i++) {
		piece.len = left > LONG_PAYLOAD ? LONG_PAYLOAD : left;
		if (!report_payload(skb, &p, k, &piece))
			break;
		piece.at += piece.len;
		piece.seq += piece.len;
		piece.begins = 0;
		left -= piece.len;
	}
}

// udp_names reports a question or an answer of DNS, and the packets with which a client of QUIC begins.
static __always_inline void udp_names(struct __sk_buff *skb, struct packet *p, struct known *k, __u32 at, __u32 len)
{
	__u16 port = bpf_ntohs(p->key.peer_port);
	struct piece piece = {};
	__u8 head[5] = {};
	__u32 version, one;

	if (port != DNS_PORT && port != MDNS_PORT && port != LLMNR_PORT) {
		if (p->out != 1 || len < 1200 || bpf_skb_load_bytes(skb, at, head, sizeof(head)))
			return;
		version = head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4];
		// RFC 9000 and RFC 9369: an Initial packet.
		if (!(version == 1 && (head[0] & 0xf0) == 0xc0) && !(version == 0x6b3343cf && (head[0] & 0xf0) == 0xd0))
			return;
	}
	if (!may_report_payload(k))
		return;
	// The kernel may get several datagrams at once.
	one = p->out == 1 && skb->gso_size ? skb->gso_size : len;
	piece.at = at;
	for (int i = 0; i < DATAGRAM_PARTS; i++) {
		piece.len = one < len ? one : len;
		if (piece.len > LONG_PAYLOAD)
			piece.len = LONG_PAYLOAD;
		if (!report_payload(skb, p, k, &piece))
			break;
		piece.at += one;
		len -= one < len ? one : len;
	}
}

static __always_inline int packet(struct __sk_buff *skb, __u8 out)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u8 *ip = data;
	struct packet p = {};
	struct bpf_sock *sk;
	struct known *k;
	__u32 header, bytes;
	__u8 proto;
	int v4;

	if (data + 20 > end)
		return 1;
	// Most packets return here.
	v4 = ip[0] >> 4 == 4;
	proto = v4 ? ip[9] : ip[6];
	if (proto == IPPROTO_TCP && with_names && (v4 || data + 40 <= end))
		tcp_names(skb, out, ip, v4);
	if (proto == IPPROTO_TCP && !raw_tcp)
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || (sk->type != SOCK_RAW && (proto == IPPROTO_TCP || sk->protocol == IPPROTO_TCP)))
		return 1;
	// Sockets of the kernel itself have no storage yet: the next pass finds the owner. An
	// accepted socket of SCTP has none either.
	k = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!k && (sk->protocol == IPPROTO_UDP || (sk->protocol == IPPROTO_SCTP && sk->state == BPF_TCP_ESTABLISHED)))
		k = known_of(sk);
	if (!k)
		return 1;
	if (v4) {
		header = (ip[0] & 15) * 4;
		ends_of(&p, ip, 1, out);
	} else {
		header = 40;
		if (data + 40 > end)
			return 1;
		ends_of(&p, ip, 0, out);
		for (int i = 0; i < EXTENSIONS; i++) {
			__u8 next[2];

			if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_DSTOPTS)
				break;
			if (bpf_skb_load_bytes(skb, header, next, sizeof(next)))
				return 1;
			proto = next[0];
			header += 8 * (1 + next[1]);
		}
	}
	p.key.proto = proto;
	p.out = p.opener = out;
	p.connected = sk->state == BPF_TCP_ESTABLISHED;
	if (has_ports(proto)) {
		__u16 ports[2] = {};

		bpf_skb_load_bytes(skb, header, ports, sizeof(ports));
		p.local_port = ports[out != 1];
		p.key.peer_port = ports[out == 1];
		header += header_of(proto);
	}
	bytes = skb->len > header ? skb->len - header : 0;
	if (out == 1)
		p.tx = bytes;
	else
		p.rx = bytes;
	if (sk->type == SOCK_RAW) {
		// Each raw socket gets a copy of every packet of its protocol that the kernel
		// delivers to others. Only answers to its own packets are its traffic.
		p.counted_only = out != 1 && (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6 || proto == IPPROTO_TCP ||
					      proto == IPPROTO_UDP || proto == IPPROTO_SCTP || proto == IPPROTO_IGMP);
	} else if (proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE) {
		as_seen_by(&p, skb, sk, k, out);
		if (with_names && proto == IPPROTO_UDP && bytes)
			udp_names(skb, &p, k, header, bytes);
	} else if (proto == IPPROTO_SCTP) {
		__u8 chunk = 0;

		bpf_skb_load_bytes(skb, header, &chunk, 1);
		if (!sctp(&p, sk, chunk))
			return 1;
	}
	if (!with_loopback && loopback16(p.key.peer))
		return 1;
	p.key.cookie = bpf_get_socket_cookie(skb);
	p.uid = bpf_get_socket_uid(skb);
	p.device = sk->bound_dev_if ? sk->bound_dev_if : skb->ifindex;
	count(&p, k);
	if (p.last && k->flags & FLAG_FLOWS) {
		k->flags &= ~FLAG_FLOWS;
		report_socket(p.key.cookie, k, RELEASE, proto);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb) { return packet(skb, 1); }

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb) { return packet(skb, 2); }

// read_headers reads the addresses, protocol and payload of an IP packet from its headers. It
// returns 0 if it is TCP or not an IP packet.
static __always_inline int read_headers(struct sk_buff *skb, struct packet *p, __u8 out)
{
	__u8 *data = (__u8 *)skb->head + skb->network_header, ip[40];
	__s64 room = skb->len - (data - (__u8 *)skb->data);
	int v4 = skb->protocol == bpf_htons(ETH_P_IP);
	__u32 header, length, bytes;

	if (!v4 && skb->protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	if (room < (v4 ? 20 : 40) || bpf_probe_read_kernel(ip, v4 ? 20 : 40, data) || ip[0] >> 4 != (v4 ? 4 : 6))
		return 0;
	ends_of(p, ip, v4, out);
	p->key.proto = v4 ? ip[9] : ip[6];
	header = v4 ? (ip[0] & 15) * 4 : 40;
	for (int i = 0; i < EXTENSIONS && !v4; i++) {
		__u8 next[2] = {};

		if (p->key.proto != IPPROTO_HOPOPTS && p->key.proto != IPPROTO_ROUTING && p->key.proto != IPPROTO_DSTOPTS)
			break;
		bpf_probe_read_kernel(next, sizeof(next), data + header);
		p->key.proto = next[0];
		header += 8 * (1 + next[1]);
	}
	length = v4 ? ip[2] << 8 | ip[3] : 40 + (ip[4] << 8 | ip[5]);
	if (length > room)
		length = room;
	if (has_ports(p->key.proto)) {
		__u16 ports[2] = {};

		bpf_probe_read_kernel(ports, sizeof(ports), data + header);
		p->local_port = ports[out != 1];
		p->key.peer_port = ports[out == 1];
		header += header_of(p->key.proto);
	}
	bytes = length > header ? length - header : 0;
	if (out == 1)
		p->tx = bytes;
	else
		p->rx = bytes;
	return 1;
}

// queued counts what packet sockets send, as some scanners and DHCP clients do, by the IP
// headers that they write themselves. It is called for each packet of this host, so it is
// attached only while a packet socket sends.
SEC("tp_btf/net_dev_queue")
int BPF_PROG(queued, struct sk_buff *skb)
{
	struct sock *sk = skb->sk;
	__u64 frame = (__u64)skb, dev;
	struct packet p = {};
	struct known *k;

	if (!sk || sk->__sk_common.skc_family != AF_PACKET)
		return 0;
	p.key.cookie = sk->__sk_common.skc_cookie.counter;
	// The first packet of a socket has no cookie.
	if (!p.key.cookie || !read_headers(skb, &p, 1) || (!with_loopback && loopback16(p.key.peer)))
		return 0;
	k = known_of(sk);
	if (!k)
		return 0;
	// A device on top of another, such as a VLAN, passes the same frame on.
	dev = (__u64)skb->dev;
	if (k->sender == frame && *(__u64 *)k->to != dev)
		return 0;
	k->sender = frame;
	*(__u64 *)k->to = dev;
	owned(k, 0);
	p.out = p.opener = 1;
	p.uid = sk->sk_uid.val;
	p.device = skb->dev->ifindex;
	count(&p, k);
	return 0;
}

// dropped subtracts a counted datagram for which its socket has no room.
SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(dropped, int rc, struct sock *sk, struct sk_buff *skb)
{
	struct packet p = {};
	struct flow *f;

	if (!read_headers(skb, &p, 2))
		return 0;
	p.key.cookie = bpf_get_socket_cookie(sk);
	f = bpf_map_lookup_elem(&flows, &p.key);
	if (!f)
		return 0;
	__sync_fetch_and_add(&f->rx, -p.rx);
	if (f->pass != pass) {
		f->pass = pass;
		report_grown(&p.key);
	}
	return 0;
}

// sender records who sends a datagram. Its callers record the peer, before address translation.
static __always_inline struct known *sender(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct known *k = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : 0;

	if (k)
		k->sender = bpf_get_current_task();
	return k;
}

SEC("cgroup/sendmsg4")
int send_to4(struct bpf_sock_addr *ctx)
{
	struct known *k = sender(ctx);
	__be32 a = ctx->user_ip4;

	if (k) {
		to16(k->to, AF_INET, &a);
		k->to_port = ctx->user_port;
	}
	return 1;
}

SEC("cgroup/sendmsg6")
int send_to6(struct bpf_sock_addr *ctx)
{
	struct known *k = sender(ctx);
	__u32 a[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};

	if (k) {
		__builtin_memcpy(k->to, a, 16);
		k->to_port = ctx->user_port;
	}
	return 1;
}

SEC("cgroup/sock_create")
int created(struct bpf_sock *sk)
{
	struct known *k;

	if (sk->type == SOCK_RAW)
		raw_tcp |= sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_RAW;
	else if (sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_MPTCP)
		return 1;
	k = known_of(sk);
	if (k)
		owned(k, 0);
	return 1;
}

SEC("cgroup/sock_release")
int released(struct bpf_sock *sk)
{
	struct known *k;

	if (sk->protocol == IPPROTO_TCP && sk->type != SOCK_RAW)
		return 1;
	// An association of a one-to-many SCTP socket ends later.
	if (sk->protocol == IPPROTO_SCTP && sk->type == SOCK_STREAM)
		return 1;
	k = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (k && k->flags & FLAG_FLOWS)
		report_socket(bpf_get_socket_cookie(sk), k, RELEASE, sk->protocol);
	return 1;
}

// ---- what was there before

static __always_inline int hold(struct bpf_iter__task_file *ctx, struct task_struct *task, struct sock *sk, int raw, struct known *k)
{
	__u8 kind = HELD, state = GET(sk, raw, __sk_common.skc_state), tcp = is_tcp(sk, raw);
	struct sock_event e;

	if (tcp) {
		if (state == BPF_TCP_LISTEN)
			kind = LISTENER;
		else if (state == BPF_TCP_SYN_SENT || state == BPF_TCP_SYN_RECV || state == BPF_TCP_CLOSE || state == BPF_TCP_TIME_WAIT)
			return 0;
	}
	if (!k->owner.pid)
		owner_of(&k->owner, task);
	if (kind == HELD && hidden(sk, raw)) {
		k->flags |= FLAG_HIDDEN;
		return 0;
	}
	if (!tcp) {
		if (state == BPF_TCP_ESTABLISHED)
			k->flags |= FLAG_FLOWS; // the reader makes one of it
	} else if (!k->opened && kind == HELD) {
		k->opened = bpf_ktime_get_boot_ns();
	}
	if (tcp)
		k->flags &= ~FLAG_UNREPORTED;
	describe(&e, sk, raw, k, kind, state, bpf_ktime_get_boot_ns());
	e.connected = state == BPF_TCP_ESTABLISHED;
	if (!tcp && e.proto == IPPROTO_TCP) {
		e.proto = IPPROTO_RAW;
		e.connected = 0;
		raw_tcp = 1;
	} else if (e.proto == IPPROTO_RAW) {
		raw_tcp = 1;
	}
	owner_of(&e.owner, task);
	e.primary = k->owner.pid;
	bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}

// held reports each socket that a process has a file descriptor of.
SEC("iter/task_file")
int held(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk, *first;
	struct known *k;
	__u16 family;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	k = known_of(sk);
	if (!k)
		return 0;
	if (sk->sk_protocol != IPPROTO_MPTCP)
		return hold(ctx, task, sk, 0, k);
	// Its listener and its connection are those of the first subflow.
	first = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return first ? hold(ctx, task, first, 1, k) : 0;
}

// changed reports the sockets of all namespaces that have changed, also those that no process
// holds.
SEC("iter/bpf_sk_storage_map")
int changed(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk, *conn = sk;
	struct known *k = ctx->value;
	struct change c = {};
	struct tcp_sock *tp;
	__u32 owned;
	int raw = 0;

	if (!sk || !k)
		return 0;
	// To look at all that is read below would cost most of a visit.
	if (by_length && k->state && k->state == sk->__sk_common.skc_state && k->owned == k->reported && visit - k->moved >= IDLE_VISITS &&
	    (visit + (__u32)(k->opened >> 8)) % IDLE_VISITS) {
		if (k->opened && !(k->flags & FLAG_HIDDEN))
			present++;
		return 0;
	}
	if (sk->sk_protocol == IPPROTO_MPTCP) {
		conn = BPF_CORE_READ((struct mptcp_sock *)sk, first);
		raw = 1;
		if (!conn)
			return 0;
	}
	// If the protocol is read again instead, verifiers before Linux 6.2 forget the answer.
	barrier_var(raw);
	owned = k->owned;
	if (raw || is_tcp(sk, 0)) {
		c.state = GET(conn, raw, __sk_common.skc_state);
		// An event that is not reported yet is in the ring.
		if (!k->opened || k->flags & FLAG_HIDDEN || c.state == BPF_TCP_CLOSE || c.state == BPF_TCP_LISTEN)
			return 0;
		tp = tcp_of(conn, raw);
		if (!tp)
			return 0;
		read_counters(&c.tx, &c.rx, &c.rtt, conn, tp, raw);
		c.uid = sk->sk_uid.val;
		c.counted = c.tx != k->tx || c.rx != k->rx || c.state != k->state || c.uid != k->uid;
	} else if (!(k->flags & FLAG_FLOWS)) {
		return 0;
	} else if (!k->owner.pid && BPF_CORE_READ_BITFIELD(sk, sk_kern_sock)) {
		kernel_owns(k);
		owned = k->owned;
	}
	c.owned = owned != k->reported;
	if (c.counted || c.owned) {
		c.cookie = raw ? cookie_of(conn, 1) : sk->__sk_common.skc_cookie.counter;
		c.owner = k->owner;
		// If there is no room, the kernel calls again for the same socket.
		if (bpf_seq_write(ctx->meta->seq, &c, sizeof(c)))
			return 0;
		k->tx = c.tx;
		k->rx = c.rx;
		k->state = c.state;
		k->uid = c.uid;
		k->reported = owned;
		k->moved = visit;
	} else if (raw) {
		k->moved = visit; // its own state says nothing
	}
	if (!raw && c.state)
		present++;
	return 0;
}

// exists visits every socket that has storage, of all namespaces, also those that no process
// holds. It writes nothing, so the kernel makes the visit in one go and leaves out no
// socket.
SEC("iter/bpf_sk_storage_map")
int exists(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	__u64 cookie, *closed;

	if (!sk)
		return 0;
	cookie = sk->__sk_common.skc_cookie.counter;
	closed = bpf_map_lookup_elem(&suspects, &cookie);
	if (!closed)
		return 0;
	if (is_tcp(sk, 0) && sk->__sk_common.skc_state == BPF_TCP_CLOSE)
		*closed = 1;
	else
		bpf_map_delete_elem(&suspects, &cookie);
	return 0;
}

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

// end_flows removes the flows that the reader has listed, and reports their last counters. All
// of these have room in what the kernel reads at a time: it calls once for each.
SEC("iter/bpf_map_elem")
int end_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *index = ctx->key;
	struct flow_key *listed = ctx->value, key;
	struct ended e = {};
	__u64 opened, tx, rx;
	struct flow *f;

	if (!index || !listed)
		return 0;
	e.index = *index;
	if (e.index >= to_end)
		return 0;
	key = *listed;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return 0;
	opened = f->opened;
	e.tx = f->tx;
	e.rx = f->rx;
	if (bpf_map_delete_elem(&flows, &key))
		return 0;
	// This program may wait between the two, while others count. The memory stays that of a flow,
	// of this one unless a new one has it already.
	tx = READ_ONCE(f->tx);
	rx = READ_ONCE(f->rx);
	if (READ_ONCE(f->opened) == opened) {
		e.tx = tx;
		e.rx = rx;
	}
	bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}

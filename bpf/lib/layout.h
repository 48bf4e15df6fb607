/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Every struct that user space shares with the programs. bpf/layout.py mirrors it; a test compiles this file
 * with the C compiler and compares sizes and offsets. Addresses and ports are in network byte order, the rest
 * in the host's. An IPv4 address stands in the first four bytes of `addr`, the rest is zero. No implicit
 * padding: every hole is named and zero, for keys are compared as bytes.
 */
#ifndef WEFT_LAYOUT_H
#define WEFT_LAYOUT_H

#define WEFT_LAYOUT 1 /* in the names of the pins: <map>_v1 */

enum weft_family { WEFT_IPV4 = 4, WEFT_IPV6 = 6 };
enum weft_direction { WEFT_INGRESS = 0, WEFT_EGRESS = 1 };
enum weft_verdict { WEFT_DENY = 0, WEFT_ALLOW = 1, WEFT_REDIRECT = 2 };
enum weft_event_type { WEFT_EV_DROP = 1, WEFT_EV_TRACE = 4, WEFT_EV_VERDICT = 5, WEFT_EV_SOCK = 7 };
enum weft_ct_state { WEFT_CT_NEW = 0, WEFT_CT_ESTABLISHED = 1, WEFT_CT_REPLY = 2, WEFT_CT_RELATED = 3 };
/* sub types of WEFT_EV_SOCK */
enum weft_sock_event { WEFT_SOCK_OPEN = 1, WEFT_SOCK_CLOSE = 2, WEFT_SOCK_XLATE_FWD = 3, WEFT_SOCK_XLATE_REV = 4 };

/* drop reasons: Cilium's numbers */
enum weft_reason {
	WEFT_OK = 0,
	WEFT_DROP_SOURCE_IP = 132,
	WEFT_DROP_POLICY = 133,
	WEFT_DROP_INVALID = 134,
	WEFT_DROP_CT_TRUNCATED = 135,
	WEFT_DROP_L4_UNKNOWN = 137,
	WEFT_DROP_L3_UNKNOWN = 139,
	WEFT_DROP_CT_FULL = 155,
	WEFT_DROP_FRAGMENT = 157,
	WEFT_DROP_NO_BACKEND = 158,
	WEFT_DROP_NO_PROXY = 178,
	WEFT_DROP_POLICY_DENY = 181,
	WEFT_DROP_NO_POLICY = 203,
	/* Weft's own, far above Cilium's */
	WEFT_DROP_BECAME_JUDGED = 250, /* an open connection that the proxy should have had from its start: reset */
	WEFT_DROP_NOT_THE_PROXY = 251, /* speaks in a connection in which only the proxy may */
};

struct weft_ipcache_key { /* LPM: prefixlen counts from `family` */
	__u32 prefixlen; /* 32 + bits of the prefix */
	__u32 family;
	__u8 addr[16];
};
struct weft_ipcache_value {
	__u32 identity;
	__u32 former; /* while a change is under way: who the address was, judged as well; 0: nobody else */
};

struct weft_endpoint { /* by ifindex of the node's side of the veth */
	__u32 ep_id; /* 1..65535, stable while the workload lives */
	__u32 identity;
	__u32 policy_id; /* into the map of policies */
	__u32 flags; /* WEFT_EP_* */
	__u8 ipv4[4]; /* zero: none */
	__u8 ipv6[16]; /* zero: none */
	__u32 pad;
};
#define WEFT_EP_ENFORCE_INGRESS 1u
#define WEFT_EP_ENFORCE_EGRESS 2u
#define WEFT_EP_HAS_INGRESS 4u /* the table holds entries for the direction: look up even where not enforced */
#define WEFT_EP_HAS_EGRESS 8u

struct weft_policy_key { /* LPM: prefixlen counts from `identity` */
	__u32 prefixlen;
	__u32 identity;
	__u8 direction;
	__u8 protocol;
	__be16 port;
};
struct weft_policy_value {
	__u8 verdict;
	__u8 match;
	__u8 flags; /* WEFT_POLICY_* */
	__u8 pad;
	__u32 cookie;
};
#define WEFT_POLICY_BYPASS 1u

struct weft_ct_key {
	__u32 ep_id;
	__u8 family;
	__u8 protocol;
	__be16 local_port; /* ICMP echo: id */
	__be16 remote_port; /* ICMP echo: 0 */
	__u8 icmp_type; /* of the request; not ICMP: 0 */
	__u8 icmp_origin; /* 1 + direction of the request, so that pings both ways with one id are two; not ICMP: 0 */
	__u8 local[16];
	__u8 remote[16];
};
struct weft_ct_value {
	__u64 created_ns; /* CLOCK_MONOTONIC, as all times here */
	__u64 seen_ns;
	__u64 packets[2]; /* by weft_direction */
	__u64 bytes[2];
	__u64 revision; /* of the policy that judged it; another revision in force: judged again */
	__u64 reported_ns[2]; /* last trace event, by direction */
	__u32 remote_identity;
	__u32 cookie;
	__u8 origin; /* weft_direction of the packet that opened it */
	__u8 state; /* WEFT_CT_F_* */
	__u8 verdict;
	__u8 match;
	__u8 tcp_flags[2]; /* seen so far, by direction */
	__u16 icmp_type; /* type of the request that opened it: judged again by it */
};
#define WEFT_CT_F_SEEN_REPLY 1u
#define WEFT_CT_F_FIN_IN 2u
#define WEFT_CT_F_FIN_OUT 4u
#define WEFT_CT_F_RST 8u
#define WEFT_CT_F_MIDSTREAM 16u /* admitted without having seen its SYN */
#define WEFT_CT_F_OUTSIDE 32u /* its packets came to the node from elsewhere: the remote is not the node */
#define WEFT_CT_F_TO_PROXY 64u /* its opener's packets go to the proxy, as long as it lives */
#define WEFT_CT_F_FROM_PROXY 128u /* the proxy opened it, in the remote's name */

struct weft_fragment_key { /* what the fragments of one packet share */
	__u32 ep_id;
	__u32 id;
	__u8 family;
	__u8 protocol; /* IPv6: the header after the fragment header */
	__u8 direction;
	__u8 pad;
	__u8 src[16];
	__u8 dst[16];
};
struct weft_fragment_value { /* what only the first one carries */
	__be16 src_port;
	__be16 dst_port;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad;
};

struct weft_scratch { /* room for a struct weft_flow; nothing for user space to see */
	__u8 bytes[256];
};

struct weft_service_key {
	__u32 family;
	__u8 addr[16];
	__be16 port;
	__u8 protocol;
	__u8 pad;
	__u32 slot; /* 0: the service itself; 1..count: its backends */
};
struct weft_service_value {
	__u32 backend_id; /* slot 0: unused */
	__u32 count; /* slot 0: how many backends; 0: refuse with 158 */
	__u32 service_id;
	__u32 flags; /* WEFT_SVC_* */
};
#define WEFT_SVC_PROXY 1u /* workloads leave it for the proxy: TCP only */
#define WEFT_SVC_BACKEND 2u /* no service's address but a backend's own: there is nothing to choose */
struct weft_backend {
	__u32 family;
	__u8 addr[16];
	__be16 port;
	__u8 protocol;
	__u8 flags;
};
struct weft_reverse_key {
	__u64 cookie; /* of the socket */
	__u32 family;
	__u8 addr[16]; /* backend */
	__be16 port;
	__u16 pad;
};
struct weft_reverse_value {
	__u8 addr[16]; /* the service that was asked */
	__be16 port;
	__u16 pad;
	__u32 service_id;
};

struct weft_affinity_key { /* a socket that sends without connect() */
	__u64 cookie;
	__u32 family;
	__u8 addr[16]; /* service */
	__be16 port;
	__u16 pad;
};
struct weft_affinity_value {
	__u32 backend_id;
	__u32 slot; /* where it stood in the service */
};

struct weft_counter_key {
	__u32 ep_id; /* 0: no endpoint */
	__u8 direction;
	__u8 reason; /* 0: forwarded */
	__u16 pad;
};
struct weft_counter_value { /* per CPU */
	__u64 packets;
	__u64 bytes;
};
struct weft_rule_stat_key { /* what `weft bpf policy list` shows as packets and bytes */
	__u32 ep_id;
	__u32 cookie;
	__u32 direction;
	__u32 verdict;
};

struct weft_config { /* array of one */
	__u64 revision; /* policy revision in force; grows after every write that may change a verdict */
	__u32 flags; /* WEFT_CFG_* */
	__u32 trace_interval_ms; /* between two trace events of a flow and direction; 5000 */
	__u32 proxy_mark; /* the one configurable mark bit; 0: there is no proxy now */
	__u32 snapshot; /* for the daemon alone: a digest of the snapshot in force; 0: none */
};
#define WEFT_CFG_AUDIT 1u /* would-be drops pass, and say so (M1) */
#define WEFT_CFG_PROXY 2u /* the node has a proxy: `proxy` says where. It may be down: then its mark is 0 */

struct weft_proxy { /* array of one */
	__u64 host_netns; /* cookie of the node's network namespace */
	__u32 ifindex; /* of weft-p0 */
	__u16 port; /* of its listener, on 127.0.0.1 and ::1, in host order; 0: there is none */
	__u16 first_port; /* of those that it connects from in a client's name, up to 65535; in host order */
};

/* index into the array of node-wide counters (u64, per CPU) */
enum weft_stat {
	WEFT_STAT_EVENT_LOST = 0, /* ring buffer full */
	WEFT_STAT_CT_INSERT_FAILED = 1,
	WEFT_STAT_CT_CREATED = 2,
	WEFT_STAT_REVERSE_FAILED = 3,
	WEFT_STAT_NO_ENDPOINT = 4, /* packet at a veth whose endpoint is not known: dropped */
	WEFT_STAT_COUNTER_FAILED = 5, /* no room for a counter: the packet went its way uncounted */
	WEFT_STAT_BECAME_JUDGED = 6, /* packets of open connections that only the proxy may carry on: reset */
	WEFT_STAT_PROXY_RESET = 7, /* resets made because there is no proxy to take the connection */
	WEFT_STATS = 16,
};

struct weft_event { /* one record of the ring buffer */
	__u64 time_ns;
	__u8 type; /* weft_event_type */
	__u8 sub_type; /* TRACE: trace point, Cilium's numbers (0 to-endpoint, 3 to-stack...); SOCK: weft_sock_event */
	__u8 reason; /* weft_reason; DROP, and VERDICT of a denial */
	__u8 direction; /* weft_direction, seen from ep_id */
	__u8 family;
	__u8 protocol;
	__u8 tcp_flags; /* as in the header; ICMP: type */
	__u8 icmp_code;
	__be16 src_port;
	__be16 dst_port;
	__u8 match; /* MatchType */
	__u8 verdict; /* weft_verdict */
	__u8 ct_state; /* weft_ct_state */
	__u8 flags; /* WEFT_EVF_* */
	__u32 ep_id;
	__u32 src_identity;
	__u32 dst_identity;
	__u32 cookie;
	__u32 ifindex;
	__u32 length; /* of the packet */
	__u8 src[16];
	__u8 dst[16];
	__u64 socket_cookie; /* SOCK */
	__u64 cgroup_id; /* SOCK */
	__u64 bytes_sent; /* SOCK_CLOSE; SOCK_XLATE: service address and port, see sock events in bpf/README */
	__u64 bytes_received;
	__u32 srtt_us;
	__u32 retransmits;
	__u8 src_mac[6];
	__u8 dst_mac[6];
	__u32 pad;
};
#define WEFT_EVF_AUDIT 1u
#define WEFT_EVF_MIDSTREAM 2u
#endif

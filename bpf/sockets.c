// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/* Notices TCP sockets of local workloads being established and closed. Three callbacks in a connection's life, none
 * per packet or per round trip. Loopback is nobody's flow, nor is what a workload says to its own address. */
#include <uapi/linux/bpf.h>
#include "lib/address.h"
#include "lib/balance.h"

struct weft_ends {
	struct weft_address local;
	struct weft_address remote;
};

static __always_inline void weft_read_ends(struct bpf_sock_ops *ctx, struct weft_ends *ends)
{
	__be16 local_port = bpf_htons(ctx->local_port);
	__be16 remote_port = bpf_htons(bpf_ntohl(ctx->remote_port)); /* network order in the upper half of the word */

	if (ctx->family == WEFT_AF_INET) {
		weft_address_ipv4(&ends->local, ctx->local_ip4, local_port);
		weft_address_ipv4(&ends->remote, ctx->remote_ip4, remote_port);
	} else {
		weft_address_ipv6(&ends->local, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
				  ctx->local_ip6[3], local_port);
		weft_address_ipv6(&ends->remote, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2],
				  ctx->remote_ip6[3], remote_port);
	}
}

static __always_inline int weft_stays_inside(const struct weft_ends *ends)
{
	return weft_is_loopback(&ends->local) || weft_same_address(ends->local.addr, ends->remote.addr);
}

/* Seen from the socket: src is its own end. `direction` tells who opened it: egress, this socket connected; ingress,
 * it accepted, so the source of the connection is dst. */
static __always_inline void weft_socket_event(struct weft_event *event, const struct weft_ends *ends, __u8 direction)
{
	const struct weft_address *local = &ends->local, *remote = &ends->remote;

	event->direction = direction;
	event->family = local->family;
	event->protocol = IPPROTO_TCP;
	event->src_port = local->port;
	event->dst_port = remote->port;
	weft_copy_address(event->src, local->addr);
	weft_copy_address(event->dst, remote->addr);
}

/* The kernel does not tell at the end who opened a connection. So a socket that accepted also asks for options that
 * nobody knows, which do not come: a note in the one field of a socket that costs nothing. */
#define WEFT_ACCEPTED BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG

static __always_inline void weft_opened(struct bpf_sock_ops *ctx, __u8 direction)
{
	struct weft_event *event;
	struct weft_ends ends;

	weft_read_ends(ctx, &ends);
	if (weft_stays_inside(&ends))
		return;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG |
					       (direction == WEFT_INGRESS ? WEFT_ACCEPTED : 0));
	event = weft_event_reserve(WEFT_EV_SOCK, WEFT_SOCK_OPEN);
	if (!event)
		return;
	weft_socket_event(event, &ends, direction);
	event->socket_cookie = bpf_get_socket_cookie(ctx);
	weft_event_submit(event);
}

static __always_inline void weft_closed(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct weft_reverse_key key;
	struct weft_event *event;
	struct weft_ends ends;

	weft_read_ends(ctx, &ends);
	weft_reverse_key(cookie, &ends.remote, &key);
	weft_delete(reverse, &key); /* nobody can ask for its peer any more */
	event = weft_event_reserve(WEFT_EV_SOCK, WEFT_SOCK_CLOSE);
	if (!event)
		return;
	weft_socket_event(event, &ends, ctx->bpf_sock_ops_cb_flags & WEFT_ACCEPTED ? WEFT_INGRESS : WEFT_EGRESS);
	event->socket_cookie = cookie;
	event->bytes_sent = ctx->bytes_acked; /* both as the kernel counts: FIN is a byte, and the client's SYN */
	event->bytes_received = ctx->bytes_received;
	event->srtt_us = ctx->srtt_us >> 3; /* the kernel keeps eighths */
	event->retransmits = ctx->total_retrans;
	weft_event_submit(event);
}

int weft_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		weft_opened(ctx, WEFT_EGRESS);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		weft_opened(ctx, WEFT_INGRESS);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			weft_closed(ctx);
		break;
	}
	return 1;
}

// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
/* Socket load balancing: connect and sendmsg get a backend for a service's address; recvmsg and getpeername are
 * shown the service's address for a backend's. lib/balance.h says how a backend is chosen. */
#include <uapi/linux/bpf.h>
#include "lib/balance.h"

#define WEFT_GO_ON 1
#define WEFT_EPERM 0

static __always_inline int weft_refuse(__u8 protocol, __u64 cookie, const struct weft_address *service)
{
	weft_count(0, WEFT_EGRESS, WEFT_DROP_NO_BACKEND, 0);
	weft_tell_refusal(protocol, cookie, service);
	return WEFT_REFUSE;
}

/* Workloads leave what is the proxy's, for their packets pass it. The node's own do not: they are balanced here. What
 * is no service's address but a backend's is left as it is. */
static __always_inline int weft_is_left(const struct weft_service_value *value, __u8 protocol, __u64 netns)
{
	__u32 zero = 0;
	const struct weft_proxy *proxy;

	if (value->flags & WEFT_SVC_BACKEND)
		return 1;
	if (!(value->flags & WEFT_SVC_PROXY) || protocol != IPPROTO_TCP)
		return 0;
	proxy = weft_lookup(proxy, &zero);
	return !proxy || netns != proxy->host_netns;
}

/* connect: a new choice each time */
static __always_inline int weft_connect(__u8 protocol, __u64 cookie, __u64 netns, const struct weft_address *service,
					struct weft_address *to)
{
	const struct weft_service_value *value;
	struct weft_service_key key;
	struct weft_pick pick = {};
	__u32 service_id;

	weft_service_key(service, protocol, &key);
	value = weft_lookup(services, &key);
	if (!value || weft_is_left(value, protocol, netns)) { /* 1, 2 */
		weft_forget(cookie, service);
		return WEFT_LEAVE;
	}
	service_id = value->service_id;
	if (!weft_choose(&key, value->count, &pick, to)) /* 4, 5 */
		return weft_refuse(protocol, cookie, service);
	weft_remember(cookie, service, to, service_id);
	weft_tell_choice(WEFT_EV_SOCK, WEFT_SOCK_XLATE_FWD, protocol, cookie, service, to, service_id);
	return WEFT_CHOSEN;
}

/* sendmsg without connect: each datagram asks, and should get the answer of the one before */
static __always_inline int weft_sendmsg(__u8 protocol, __u64 cookie, const struct weft_address *service,
					struct weft_address *to)
{
	const struct weft_affinity_value *before;
	const struct weft_service_value *value;
	struct weft_affinity_key affinity_key;
	struct weft_affinity_value affinity;
	struct weft_service_key key;
	struct weft_pick pick = {};
	__u32 service_id;

	weft_service_key(service, protocol, &key);
	value = weft_lookup(services, &key);
	if (!value) /* 1; datagrams are never the proxy's */
		return WEFT_LEAVE;
	service_id = value->service_id;
	weft_affinity_key(cookie, service, &affinity_key);
	before = weft_lookup(affinity, &affinity_key);
	if (before) {
		pick.backend_id = before->backend_id;
		pick.slot = before->slot;
	}
	affinity.backend_id = pick.backend_id;
	affinity.slot = pick.slot;
	if (!weft_choose(&key, value->count, &pick, to)) /* 3, 4, 5 */
		return weft_refuse(protocol, cookie, service);
	if (pick.backend_id == affinity.backend_id && pick.slot == affinity.slot && weft_shown(cookie, to))
		return WEFT_CHOSEN;
	affinity.backend_id = pick.backend_id;
	affinity.slot = pick.slot;
	weft_update(affinity, &affinity_key, &affinity, BPF_ANY);
	weft_remember(cookie, service, to, service_id);
	weft_tell_choice(WEFT_EV_SOCK, WEFT_SOCK_XLATE_FWD, protocol, cookie, service, to, service_id);
	return WEFT_CHOSEN;
}

/* --- the hooks: read the context's address, ask, write it back ----------------------------------------------- */

static __always_inline void weft_read_ipv6(const struct bpf_sock_addr *ctx, struct weft_address *address)
{
	weft_address_ipv6(address, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3],
			  ctx->user_port);
}

static __always_inline void weft_write_ipv4(struct bpf_sock_addr *ctx, const __u32 *addr, __be16 port)
{
	ctx->user_ip4 = addr[0];
	ctx->user_port = port;
}

/* a mapped address stays mapped */
static __always_inline void weft_write_ipv6(struct bpf_sock_addr *ctx, __u32 family, const __u32 *addr, __be16 port)
{
	if (family == WEFT_IPV4) {
		ctx->user_ip6[3] = addr[0];
	} else {
		ctx->user_ip6[0] = addr[0];
		ctx->user_ip6[1] = addr[1];
		ctx->user_ip6[2] = addr[2];
		ctx->user_ip6[3] = addr[3];
	}
	ctx->user_port = port;
}

int weft_connect4(struct bpf_sock_addr *ctx)
{
	struct weft_address service, to;
	int choice;

	weft_address_ipv4(&service, ctx->user_ip4, ctx->user_port);
	choice = weft_connect(ctx->protocol, bpf_get_socket_cookie(ctx), bpf_get_netns_cookie(ctx), &service, &to);
	if (choice == WEFT_CHOSEN)
		weft_write_ipv4(ctx, to.addr, to.port);
	return choice == WEFT_REFUSE ? WEFT_EPERM : WEFT_GO_ON;
}

int weft_connect6(struct bpf_sock_addr *ctx)
{
	struct weft_address service, to;
	int choice;

	weft_read_ipv6(ctx, &service);
	choice = weft_connect(ctx->protocol, bpf_get_socket_cookie(ctx), bpf_get_netns_cookie(ctx), &service, &to);
	if (choice == WEFT_CHOSEN)
		weft_write_ipv6(ctx, to.family, to.addr, to.port);
	return choice == WEFT_REFUSE ? WEFT_EPERM : WEFT_GO_ON;
}

int weft_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct weft_address service, to;
	int choice;

	weft_address_ipv4(&service, ctx->user_ip4, ctx->user_port);
	choice = weft_sendmsg(ctx->protocol, bpf_get_socket_cookie(ctx), &service, &to);
	if (choice == WEFT_CHOSEN)
		weft_write_ipv4(ctx, to.addr, to.port);
	return choice == WEFT_REFUSE ? WEFT_EPERM : WEFT_GO_ON;
}

int weft_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct weft_address service, to;
	int choice;

	weft_read_ipv6(ctx, &service);
	choice = weft_sendmsg(ctx->protocol, bpf_get_socket_cookie(ctx), &service, &to);
	if (choice == WEFT_CHOSEN)
		weft_write_ipv6(ctx, to.family, to.addr, to.port);
	return choice == WEFT_REFUSE ? WEFT_EPERM : WEFT_GO_ON;
}

static __always_inline int weft_show_ipv4(struct bpf_sock_addr *ctx)
{
	const struct weft_reverse_value *shown;
	struct weft_address backend;

	weft_address_ipv4(&backend, ctx->user_ip4, ctx->user_port);
	shown = weft_shown(bpf_get_socket_cookie(ctx), &backend);
	if (shown)
		weft_write_ipv4(ctx, (const __u32 *)shown->addr, shown->port);
	return WEFT_GO_ON;
}

static __always_inline int weft_show_ipv6(struct bpf_sock_addr *ctx)
{
	const struct weft_reverse_value *shown;
	struct weft_address backend;

	weft_read_ipv6(ctx, &backend);
	shown = weft_shown(bpf_get_socket_cookie(ctx), &backend);
	if (shown)
		weft_write_ipv6(ctx, backend.family, (const __u32 *)shown->addr, shown->port);
	return WEFT_GO_ON;
}

int weft_recvmsg4(struct bpf_sock_addr *ctx)
{
	return weft_show_ipv4(ctx);
}

int weft_recvmsg6(struct bpf_sock_addr *ctx)
{
	return weft_show_ipv6(ctx);
}

int weft_getpeername4(struct bpf_sock_addr *ctx)
{
	return weft_show_ipv4(ctx);
}

int weft_getpeername6(struct bpf_sock_addr *ctx)
{
	return weft_show_ipv6(ctx);
}

/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* From the address of a service to one of its backends. No packet is rewritten: the socket is told another
 * address before it sends the first one, and shown the service's when it asks with whom it speaks.
 *
 *   1 no such service: leave the address alone
 *   2 the service is the proxy's, and a workload asks by TCP: leave it alone
 *   3 a socket that asked before, without connecting: the same backend, while the service has it
 *   4 any backend, by chance; one that has gone since (user space removes backends after slots): the next
 *   5 none: refuse, 158
 */
#ifndef WEFT_BALANCE_H
#define WEFT_BALANCE_H

#include "lib/account.h"
#include "lib/address.h"
#include "lib/ring.h"

/* How many slots are tried before a service counts as empty. Between the write of a slot and of its backend there is
 * a moment; more than a few stale ones at once means that user space is gone. */
#define WEFT_SLOTS_TRIED 32

enum weft_choice { WEFT_LEAVE = 0, WEFT_CHOSEN = 1, WEFT_REFUSE = 2 };

static __always_inline void weft_service_key(const struct weft_address *service, __u8 protocol,
					     struct weft_service_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = service->family;
	weft_copy_address(key->addr, service->addr);
	key->port = service->port;
	key->protocol = protocol;
}

static __always_inline const struct weft_backend *weft_backend(const struct weft_service_key *key, __u32 id)
{
	const struct weft_backend *backend = weft_lookup(backends, &id);

	/* another family than the service's is of no use to the socket that asks */
	return backend && backend->family == key->family ? backend : 0;
}

/* The id of the backend that stands in a slot; 0: none that exists. */
static __always_inline __u32 weft_slot(struct weft_service_key *key, __u32 slot)
{
	const struct weft_service_value *value;

	key->slot = slot;
	value = weft_lookup(services, key);
	if (!value || !weft_backend(key, value->backend_id))
		return 0;
	return value->backend_id;
}

struct weft_pick { /* backend 0: none */
	__u32 backend_id;
	__u32 slot;
};

/* From anywhere on, around: the wanted backend, else (or if none is wanted) the first that exists. */
static __always_inline void weft_search(struct weft_service_key *key, __u32 count, __u32 wanted,
					struct weft_pick *pick)
{
	__u32 i, slot = bpf_get_prandom_u32();

	pick->backend_id = 0;
	for (i = 0; i < WEFT_SLOTS_TRIED; i++) {
		__u32 id;

		asm volatile("" : "+r"(i)); /* or the compiler counts to the smaller of both, which 5.15 cannot follow */
		if (i >= count)
			break;
		slot = 1 + (slot % count);
		id = weft_slot(key, slot);
		if (id && (id == wanted || !pick->backend_id)) {
			pick->backend_id = id;
			pick->slot = slot;
		}
		if (id && (id == wanted || !wanted))
			break;
	}
}

/* `pick`: what the socket had before, if anything; in most cases it stands where it stood. */
static __always_inline int weft_choose(struct weft_service_key *key, __u32 count, struct weft_pick *pick,
				       struct weft_address *to)
{
	const struct weft_backend *backend;

	if (!pick->backend_id || pick->slot > count || weft_slot(key, pick->slot) != pick->backend_id)
		weft_search(key, count, pick->backend_id, pick);
	if (!pick->backend_id)
		return 0;
	backend = weft_backend(key, pick->backend_id);
	if (!backend)
		return 0; /* removed just now */
	to->family = backend->family;
	weft_copy_address(to->addr, backend->addr);
	to->port = backend->port;
	to->pad = 0;
	return 1;
}

/* --- what the socket is shown -------------------------------------------------------------------------------- */

static __always_inline void weft_reverse_key(__u64 cookie, const struct weft_address *backend,
					     struct weft_reverse_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->family = backend->family;
	weft_copy_address(key->addr, backend->addr);
	key->port = backend->port;
}

static __always_inline void weft_remember(__u64 cookie, const struct weft_address *service,
					  const struct weft_address *backend, __u32 service_id)
{
	struct weft_reverse_value value = { .port = service->port, .service_id = service_id };
	struct weft_reverse_key key;

	weft_reverse_key(cookie, backend, &key);
	weft_copy_address(value.addr, service->addr);
	if (weft_update(reverse, &key, &value, BPF_ANY))
		weft_stat(WEFT_STAT_REVERSE_FAILED);
}

/* A socket that now asks for the backend itself is to be shown the backend. */
static __always_inline void weft_forget(__u64 cookie, const struct weft_address *backend)
{
	struct weft_reverse_key key;

	weft_reverse_key(cookie, backend, &key);
	weft_delete(reverse, &key);
}

static __always_inline const struct weft_reverse_value *weft_shown(__u64 cookie, const struct weft_address *backend)
{
	struct weft_reverse_key key;

	weft_reverse_key(cookie, backend, &key);
	return weft_lookup(reverse, &key);
}

/* --- a socket that sends without connecting ------------------------------------------------------------------ */

static __always_inline void weft_affinity_key(__u64 cookie, const struct weft_address *service,
					      struct weft_affinity_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->family = service->family;
	weft_copy_address(key->addr, service->addr);
	key->port = service->port;
}

/* --- what user space is told --------------------------------------------------------------------------------- */

/* The source's address is not known before the kernel has chosen a route: src is the service that was asked,
 * dst the backend, `length` the service's port, `cookie` the service's id. */
static __always_inline void weft_tell_choice(__u8 type, __u8 sub_type, __u8 protocol, __u64 cookie,
					     const struct weft_address *service, const struct weft_address *backend,
					     __u32 service_id)
{
	struct weft_event *event = weft_event_reserve(type, sub_type);

	if (!event)
		return;
	event->direction = WEFT_EGRESS;
	event->family = service->family;
	event->protocol = protocol;
	event->src_port = service->port;
	event->dst_port = backend->port;
	event->length = bpf_ntohs(service->port);
	event->cookie = service_id;
	weft_copy_address(event->src, service->addr);
	weft_copy_address(event->dst, backend->addr);
	event->socket_cookie = cookie;
	event->cgroup_id = bpf_get_current_cgroup_id();
	weft_event_submit(event);
}

static __always_inline void weft_tell_refusal(__u8 protocol, __u64 cookie, const struct weft_address *service)
{
	struct weft_event *event = weft_event_reserve(WEFT_EV_DROP, 0);

	if (!event)
		return;
	event->reason = WEFT_DROP_NO_BACKEND;
	event->direction = WEFT_EGRESS;
	event->family = service->family;
	event->protocol = protocol;
	event->dst_port = service->port;
	weft_copy_address(event->dst, service->addr);
	event->socket_cookie = cookie;
	event->cgroup_id = bpf_get_current_cgroup_id();
	weft_event_submit(event);
}

#endif

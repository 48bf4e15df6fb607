/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Addresses as the maps hold them: four words, IPv4 in the first. IPv4 is IPv4, also when an IPv6 socket speaks it
 * (::ffff:a.b.c.d, as Go's and Java's do). */
#ifndef WEFT_ADDRESS_H
#define WEFT_ADDRESS_H

#include <linux/in.h>
#include "lib/layout.h"

#define WEFT_AF_INET 2
#define WEFT_AF_INET6 10

struct weft_address {
	__u32 family; /* weft_family */
	__u32 addr[4];
	__be16 port;
	__u16 pad;
};

/* Word by word, and never from `x ? a : b`: a packet whose parts are chosen by pointer cannot live in registers. */
static __always_inline void weft_copy_address(void *to, const void *from)
{
	const __u32 *have = from;
	__u32 *words = to;

	words[0] = have[0];
	words[1] = have[1];
	words[2] = have[2];
	words[3] = have[3];
}

static __always_inline int weft_same_address(const __u32 *a, const __u32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline int weft_is_mapped(__u32 a, __u32 b, __u32 c)
{
	return !(a | b) && c == bpf_htonl(0xffff);
}

static __always_inline void weft_address_ipv4(struct weft_address *address, __u32 addr, __be16 port)
{
	__builtin_memset(address, 0, sizeof(*address));
	address->family = WEFT_IPV4;
	address->addr[0] = addr;
	address->port = port;
}

/* The four words by value: a context's fields cannot be read through a pointer. */
static __always_inline void weft_address_ipv6(struct weft_address *address, __u32 a, __u32 b, __u32 c, __u32 d,
					      __be16 port)
{
	if (weft_is_mapped(a, b, c)) {
		weft_address_ipv4(address, d, port);
		return;
	}
	__builtin_memset(address, 0, sizeof(*address));
	address->family = WEFT_IPV6;
	address->addr[0] = a;
	address->addr[1] = b;
	address->addr[2] = c;
	address->addr[3] = d;
	address->port = port;
}

static __always_inline int weft_is_loopback(const struct weft_address *address)
{
	if (address->family == WEFT_IPV4)
		return (bpf_ntohl(address->addr[0]) >> 24) == 127;
	return !(address->addr[0] | address->addr[1] | address->addr[2]) && address->addr[3] == bpf_htonl(1);
}

#endif

/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* A packet as the programs speak of it: what parse.h reads, and the rest only looks at. */
#ifndef WEFT_PACKET_H
#define WEFT_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include "lib/address.h"

#define WEFT_TCP_FIN 0x01
#define WEFT_TCP_SYN 0x02
#define WEFT_TCP_RST 0x04
#define WEFT_TCP_ACK 0x10

#define WEFT_PROTO_SCTP 132 /* an enum of linux/in.h that the kernel's #if cannot see */

enum weft_fragment { WEFT_WHOLE = 0, WEFT_FIRST_FRAGMENT = 1, WEFT_LATER_FRAGMENT = 2 };

struct weft_packet {
	__u32 src[4];
	__u32 dst[4];
	__be16 src_port; /* ICMP queries: the id, in both */
	__be16 dst_port;
	__u8 family;
	__u8 protocol;
	__u8 hop_limit;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 fragment; /* weft_fragment */
	__u8 fragment_protocol; /* what every fragment of the packet says it carries */
	__u32 fragment_id;
	__u32 l4; /* offset of the transport header in the frame */
	__u32 end; /* where the IP packet ends; what follows is padding */
};

static __always_inline int weft_is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

static __always_inline int weft_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == WEFT_PROTO_SCTP;
}

/* a packet that asks for a connection, and answers none */
static __always_inline int weft_is_syn(const struct weft_packet *packet)
{
	return packet->protocol == IPPROTO_TCP &&
	       (packet->tcp_flags & (WEFT_TCP_SYN | WEFT_TCP_ACK)) == WEFT_TCP_SYN;
}

static __always_inline int weft_no_address(const __u32 *a)
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

/* fe80::/10, and ff02::/16: what no router carries on */
static __always_inline int weft_link_scope(const __u32 *a)
{
	__u32 head = bpf_ntohl(a[0]);

	return (head & 0xffc00000) == 0xfe800000 || (head & 0xff0f0000) == 0xff020000;
}

#endif

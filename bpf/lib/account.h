/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* How much of it: packets and bytes, per CPU, so that no two CPUs fight for a line. A packet is what crosses the
 * hook: a GSO super packet counts once, with all its bytes. */
#ifndef WEFT_ACCOUNT_H
#define WEFT_ACCOUNT_H

#include "lib/config.h"

static __always_inline void weft_add(struct weft_counter_value *value, __u32 bytes)
{
	value->packets += 1;
	value->bytes += bytes;
}

static __always_inline void weft_count(__u32 ep_id, __u8 direction, __u8 reason, __u32 bytes)
{
	struct weft_counter_key key = { .ep_id = ep_id, .direction = direction, .reason = reason };
	struct weft_counter_value none = {};
	struct weft_counter_value *value = weft_lookup(counters, &key);

	if (!value) {
		/* made empty and found again: another CPU may have been first, and its count must stay */
		weft_update(counters, &key, &none, BPF_NOEXIST);
		value = weft_lookup(counters, &key);
	}
	if (value)
		weft_add(value, bytes);
	else
		weft_stat(WEFT_STAT_COUNTER_FAILED);
}

static __always_inline void weft_count_rule(__u32 ep_id, __u32 cookie, __u8 direction, __u8 verdict, __u32 bytes)
{
	struct weft_rule_stat_key key = {
		.ep_id = ep_id, .cookie = cookie, .direction = direction, .verdict = verdict
	};
	struct weft_counter_value none = {};
	struct weft_counter_value *value = weft_lookup(rule_stats, &key);

	if (!value) {
		weft_update(rule_stats, &key, &none, BPF_NOEXIST);
		value = weft_lookup(rule_stats, &key);
	}
	if (value)
		weft_add(value, bytes);
	else
		weft_stat(WEFT_STAT_COUNTER_FAILED);
}

#endif

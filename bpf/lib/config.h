/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What the daemon tells the programs, and the node-wide counters by which they tell what went wrong. */
#ifndef WEFT_CONFIG_H
#define WEFT_CONFIG_H

#include "lib/maps.h"

#define WEFT_NS_PER_MS 1000000ull

/* An array's element cannot be missing: the check is for the verifier. */
static __always_inline const struct weft_config *weft_config(void)
{
	__u32 zero = 0;

	return weft_lookup(config, &zero);
}

static __always_inline void weft_stat(__u32 stat)
{
	__u64 *count = weft_lookup(stats, &stat);

	if (count)
		*count += 1;
}

#endif

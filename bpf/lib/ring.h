/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* One record of the ring buffer. A record that finds no room is counted, and what it was about goes its way:
 * telling never changes a verdict. */
#ifndef WEFT_RING_H
#define WEFT_RING_H

#include "lib/config.h"

static __always_inline struct weft_event *weft_event_reserve(__u8 type, __u8 sub_type)
{
	struct weft_event *event = bpf_ringbuf_reserve(WEFT_MAP(events), sizeof(*event), 0);

	if (!event) {
		weft_stat(WEFT_STAT_EVENT_LOST);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = bpf_ktime_get_ns();
	event->type = type;
	event->sub_type = sub_type;
	return event;
}

/* wakes the reader, if it has caught up */
static __always_inline void weft_event_submit(struct weft_event *event)
{
	bpf_ringbuf_submit(event, 0);
}

#endif

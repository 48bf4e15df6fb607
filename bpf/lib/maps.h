/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The maps, and how a program reaches them.
 *
 * The programs make no map. The loader opens the pinned ones, or makes what is missing from the table in
 * bpf/layout.py, and passes each descriptor as -DWEFT_FD_<map>=<fd>: so kinds, sizes and pins are written down
 * once, and a new program meets the live entries of the one before it. bcc's own tables would not do: it
 * rewrites `map.lookup()` in the main file only, never in a header.
 */
#ifndef WEFT_MAPS_H
#define WEFT_MAPS_H

#include "lib/layout.h"

/* a descriptor as the kernel wants it in an instruction: resolved, and counted, when the program is loaded */
#define WEFT_MAP(name) ((void *)bpf_pseudo_fd(BPF_PSEUDO_MAP_FD, WEFT_FD_##name))

#define weft_lookup(name, key) bpf_map_lookup_elem(WEFT_MAP(name), (void *)(key))
#define weft_update(name, key, value, flags) bpf_map_update_elem(WEFT_MAP(name), (void *)(key), (void *)(value), (flags))
#define weft_delete(name, key) bpf_map_delete_elem(WEFT_MAP(name), (void *)(key))

/* helpers that bcc 0.26 knows by number only */
static __u64 (*weft_coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns; /* 5.11 */

#endif

"""bpf(2) without a compiler or a library: maps, programs, links and pins as calls on descriptors and bytes.

In: descriptors, bytes in the kernel's layout. Out: the same, or OSError whose message names the operation and the
object. Nothing here knows what Weft's maps mean: that is `maps`. Descriptors are the caller's to close; the kernel
makes every one of them close-on-exec. Not finding a key is an answer (None, False), not an error.

Capabilities: creating maps, opening pins, reading, writing and info need CAP_BPF; loading and attaching networking
programs and running them on packets CAP_NET_ADMIN as well; walking ids and opening by id CAP_SYS_ADMIN.
"""

from weft.bpf.sys.links import LinkInfo, link_create, link_detach, link_info, link_update
from weft.bpf.sys.maps import (
    MapInfo,
    map_create,
    map_delete,
    map_delete_batch,
    map_info,
    map_lookup,
    map_lookup_batch,
    map_next_key,
    map_update,
    map_update_batch,
)
from weft.bpf.sys.objects import (
    link_by_id,
    link_ids,
    map_by_id,
    map_ids,
    obj_get,
    obj_pin,
    prog_by_id,
    prog_ids,
)
from weft.bpf.sys.programs import (
    ProgInfo,
    TestRun,
    VerifierError,
    prog_attach,
    prog_detach,
    prog_info,
    prog_load,
    prog_test_run,
)

__all__ = [
    "LinkInfo",
    "MapInfo",
    "ProgInfo",
    "TestRun",
    "VerifierError",
    "link_by_id",
    "link_create",
    "link_detach",
    "link_ids",
    "link_info",
    "link_update",
    "map_by_id",
    "map_create",
    "map_delete",
    "map_delete_batch",
    "map_ids",
    "map_info",
    "map_lookup",
    "map_lookup_batch",
    "map_next_key",
    "map_update",
    "map_update_batch",
    "obj_get",
    "obj_pin",
    "prog_attach",
    "prog_by_id",
    "prog_detach",
    "prog_ids",
    "prog_info",
    "prog_load",
    "prog_test_run",
]

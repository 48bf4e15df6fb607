"""The counters that all workers of a node share, or counters of this worker's own where they cannot be had.

A proxy without the map still serves: its limits and its least-loaded choice then see what it does itself, and no
more.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from weft.bpf import shared
from weft.bpf.shared import Private, Rows, Shared

log = logging.getLogger("weft.l7proxy")


def rows(pin: Path | None, lock: Path) -> Rows:
    """`pin` None: none are wanted. `lock`: a file of the node's own, the same for all of its workers."""
    if pin is None:
        return Private()
    try:
        fd = shared.pinned(pin)
        try:
            return Shared(fd, lock)
        finally:
            os.close(fd)
    except (OSError, shared.OtherShape, shared.NoColumn) as error:
        log.warning("counters are not shared with other workers: %s", error)
        return Private()

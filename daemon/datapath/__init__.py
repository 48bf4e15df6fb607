"""Makes the kernel hold what the snapshot says: have, want, plan.

In: a Snapshot and the facts of this node (which interface leads to which address). Out: ordered writes to the
pinned maps, and programs attached to the workloads' interfaces. `addresses`, `endpoints`, `tables` and
`services` compute what is wanted, `plan` orders the difference to what is there; these are pure. `reader`,
`writer`, `programs` and `conntrack` touch the kernel, and decide nothing.

Rule of the room: every moment between two writes is safe, so that a daemon may die at any of them: what is
half done shows the next one in the maps themselves, and it finishes. Applying twice changes nothing.
"""

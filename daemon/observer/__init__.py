"""What happens on this node, for people and tools: records of the programs become flows.

In: `weft_event` records from the ring buffer, by `Observer.feed`, and a `Directory` that knows who owns an
address. Out: the Hubble API (gRPC: observer, peer, health, reflection) and `hubble_*` metrics. Nothing here
touches the kernel or decides anything.

Rule of the room: names are looked up when a record arrives, for an address may belong to another workload a
minute later; everything else waits until somebody reads, for most flows are never read. What is lost on the
way (the kernel's ring, this ring, a slow reader) is counted and told, never silent.
"""

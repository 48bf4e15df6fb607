"""Everything the daemon does for the node's L7 proxy: feeds it, keeps it running, adds up what it counts, and tells
what it carried. In: updates as the operator sent them, questions, `weft-l7proxy` workers on a unix socket. Out:
acknowledgements, metric families, L7 flows, answers. No request passes through here.

Rule: the proxy outlives the daemon, and the daemon the proxy. Neither waits for the other, and whatever one of them
says that makes no sense costs it its connection and nothing else.
"""

"""Connections to endpoints: who holds them, what runs on them, and the names that have to be looked up first.

In: a client's wish for a stream to an endpoint (`Pool.open`). Out: an `Upstream` on a connection in the client's
own name. Whatever is opened is swept: idle, too old, drained. Nothing is retried here, that is the exchange's.
"""

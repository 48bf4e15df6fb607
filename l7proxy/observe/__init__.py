"""What is told of requests and connections: trace context, metrics, access log, flows, spans.

In: `Entry`s of the exchange, the mesh's telemetry settings. Out: bytes for the daemon's socket, lines of a log,
spans for a collector. Rule: on the request's own way stands only what it cannot do without (ids, context, a few
sums); the rest is made later, in turns, from entries that wait in a bounded queue, and what does not fit is
counted."""

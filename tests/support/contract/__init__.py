"""The table of what `weft policy verdict` answers, statement by statement of the specification: one module a
chapter, each with its ROWS."""

from contract import addresses, http, kubernetes, mode, peers, ports, precedence, selectors

ROWS = [
    *mode.ROWS,
    *selectors.ROWS,
    *addresses.ROWS,
    *peers.ROWS,
    *ports.ROWS,
    *precedence.ROWS,
    *http.ROWS,
    *kubernetes.ROWS,
]

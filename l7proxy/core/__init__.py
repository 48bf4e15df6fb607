"""The thinking part of the proxy, without I/O: bytes and time come in as calls, bytes go out through what the shell
hands in. Codecs know nothing of routes, the exchange knows nothing of framing, balancing knows neither.
"""

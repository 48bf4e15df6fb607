"""The `weft` command: one module for each command, none of which decides anything.

What a command shows comes from a daemon's socket, the operator's, the observer API or pinned maps; what it
judges offline comes from `weft.policies`. Each module has `register(commands)`; only the one that was asked
for is imported, so that `weft policy verdict` starts without gRPC.
"""

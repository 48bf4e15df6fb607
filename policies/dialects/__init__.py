"""One module for each declared language; each turns documents into `weft.policies.model` or `.objects`, or
refuses them with `Invalid`, which names file, line, object and path. Nothing here knows identities."""

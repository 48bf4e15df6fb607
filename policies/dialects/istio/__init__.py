"""Istio's resources: networking.istio.io, telemetry.istio.io and MeshConfig to `weft.policies.mesh.model`.

In: documents, by way of `registry`. Out: one value each (Route, DestinationPolicy, ServiceEntry, WorkloadEntry,
Telemetry, MeshSettings), or `Invalid`. The rule: what Istio's own validation refuses is refused, and so is an
unknown field. What Weft reads but does not do is a warning with its path, where requests go the same way without
it; where they would go another way, the object is refused.
"""

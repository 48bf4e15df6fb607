"""Routing, resilience and telemetry: what VirtualService, DestinationRule, ServiceEntry, HTTPRoute, GRPCRoute,
TrafficSplit and Telemetry all become. In: declared resources, each by its dialect. Out: for every host that has
some, one `HostRouting`, and the answer to "where does this request go" (`choose`). Pure: no I/O, no clock.
"""

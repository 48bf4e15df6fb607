"""TrafficSplit and HTTPRouteGroup, in the versions that were ever written."""

from __future__ import annotations

import pytest

from declared import declared
from weft.policies.errors import Invalid
from weft.policies.mesh.model import (
    Destination,
    DirectResponse,
    How,
    Matcher,
    Named,
    RequestMatch,
    Route,
    RouteGroup,
)

HOST = "{}.default.svc.cluster.local"


def split(spec: str, version: str = "v1alpha2") -> Route:
    found = declared(
        f"apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: s}}\nspec: {{{spec}}}"
    )
    assert isinstance(found, Route)
    return found


def refusal(spec: str) -> str:
    with pytest.raises(Invalid) as caught:
        split(spec)
    return f"{caught.value.where.path}: {caught.value.reason}"


def weights(found: Route) -> list[tuple[str, int]]:
    return [(d.host, d.weight) for d in found.http[0].destinations]


TWO = [(HOST.format("v1"), 90), (HOST.format("v2"), 10)]


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"])
def test_every_version_splits_by_weight(version: str) -> None:
    found = split("service: api, backends: [{service: v1, weight: 90}, {service: v2, weight: 10}]", version)
    assert found.hosts == (HOST.format("api"),)
    assert weights(found) == TWO
    assert found.tcp[0].destinations == found.http[0].destinations


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("900m", "100m", [900, 100]),
        ("1", "500m", [2, 1]),
        ("0.9", "0.1", [9, 1]),
        ("0", "1", [0, 1]),
        ("900m", "250m", [18, 5]),
    ],
)
def test_quantities_keep_their_proportion(first: str, second: str, wanted: list[int]) -> None:
    found = split(
        f'service: api, backends: [{{service: v1, weight: "{first}"}}, {{service: v2, weight: "{second}"}}]'
    )
    ratio = [weight for _, weight in weights(found)]
    assert [each * sum(wanted) for each in ratio] == [each * sum(ratio) for each in wanted]


def test_service_member_is_read_as_service_with_a_warning() -> None:
    found = split("service: api, backends: [{serviceMember: v1, weight: 90}, {serviceMember: v2, weight: 10}]")
    assert weights(found) == TWO
    assert [warning.partition(":")[0] for warning in found.warnings] == [
        "spec.backends[0].serviceMember",
        "spec.backends[1].serviceMember",
    ]


def test_service_wins_over_service_member() -> None:
    found = split("service: api, backends: [{service: v1, serviceMember: x, weight: 1}]")
    assert found.http[0].destinations == (Destination(HOST.format("v1"), weight=1),)


def test_all_weights_zero_means_no_traffic() -> None:
    found = split("service: api, backends: [{service: v1, weight: 0}, {service: v2, weight: 0}]")
    assert found.http[0].direct == DirectResponse(503, b"no healthy upstream")
    assert (found.http[0].destinations, found.tcp) == ((), ())


def test_with_matches_the_rest_goes_to_the_apex_itself() -> None:
    matches = "matches: [{kind: HTTPRouteGroup, name: g}, {kind: UDPRoute, name: u}]"
    found = split(f"service: api, backends: [{{service: v1, weight: 1}}], {matches}", "v1alpha4")
    first, rest = found.http
    assert first.groups == (("g", ""),)
    assert rest.destinations == (Destination(HOST.format("api")),)
    assert '"UDPRoute"' in found.warnings[0]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("service: api, backends: []", "spec.backends: must name at least one"),
        ("service: api", "spec.backends: is missing"),
        ("backends: [{service: v1, weight: 1}]", "spec.service: is missing"),
        ("service: api, backends: [{service: v1}]", "spec.backends[0].weight: is missing"),
        ("service: api, backends: [{weight: 1}]", "spec.backends[0].service: is missing"),
        ("service: api, backends: [{service: v1, weight: -1}]", "spec.backends[0].weight"),
        ("service: api, backends: [{service: v1, weight: many}]", "spec.backends[0].weight"),
        ("service: api, backends: [{service: v1, weight: 1}, {service: v1, weight: 2}]", "is there twice"),
        ("service: '*', backends: [{service: v1, weight: 1}]", "spec.service"),
        ("service: api, backends: [{service: v1, weight: 1, port: 80}]", "unknown field"),
    ],
)
def test_what_is_refused_says_where(spec: str, wanted: str) -> None:
    assert wanted in refusal(spec)


def group(text: str, version: str = "v1alpha3") -> RouteGroup:
    found = declared(
        f"apiVersion: specs.smi-spec.io/{version}\nkind: HTTPRouteGroup\nmetadata: {{name: g}}\n{text}"
    )
    assert isinstance(found, RouteGroup)
    return found


PATH = Matcher(How.REGEX, "/a/.*")


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("{name: m, pathRegex: '/a/.*'}", [RequestMatch(path=PATH, name="m")]),
        ("{name: m, pathRegex: '/a/.*', methods: ['*']}", [RequestMatch(path=PATH, name="m")]),
        (
            "{name: m, methods: [GET, POST]}",
            [RequestMatch(name="m", method=Matcher(How.EXACT, method)) for method in ("GET", "POST")],
        ),
        (
            "{name: m, headers: [{X-Canary: 'yes'}, {W: z}]}",
            [
                RequestMatch(
                    name="m",
                    headers=(Named("x-canary", Matcher(How.REGEX, "yes")), Named("w", Matcher(How.REGEX, "z"))),
                )
            ],
        ),
        ("{name: m, headers: {a: b}}", [RequestMatch(name="m", headers=(Named("a", Matcher(How.REGEX, "b")),))]),
    ],
    ids=["a path", "any method", "one match for each method", "headers as a list", "headers as a mapping"],
)
def test_groups(match: str, wanted: list[RequestMatch]) -> None:
    assert list(group(f"spec: {{matches: [{match}]}}").matches) == wanted


def test_the_first_version_had_no_spec() -> None:
    assert group("matches: [{name: m, pathRegex: '/a/.*'}]", "v1alpha1").matches == (
        RequestMatch(path=PATH, name="m"),
    )

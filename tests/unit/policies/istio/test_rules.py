"""What a rule of a VirtualService does: F17 to F23 and the retry table (1.3)."""

from __future__ import annotations

import pytest

from istio_manifests import istio, reaching, refusal, route, rule, with_rule
from weft.policies.mesh.model import (
    DEFAULT_RETRIES,
    Cors,
    Destination,
    DirectResponse,
    Fault,
    HeaderChanges,
    How,
    Matcher,
    Mirror,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
)

B = "b.shop.svc.cluster.local"
C = "c.shop.svc.cluster.local"
DEFAULT_ON = ("connect-failure", "refused-stream", "unavailable", "cancelled")


def retried(attempts: int, on: tuple[str, ...] = DEFAULT_ON, statuses: tuple[int, ...] = ()) -> Retries:
    return Retries(attempts, on, statuses)


NONE = Retries(attempts=0, on=())
STATUS = "retriable-status-codes"

#: A rule, where in it to look, what must be there. No warnings.
FIELDS: dict[str, tuple[str, str, object]] = {
    "a name": ("name: first", "name", "first"),
    # F17
    "F17 no timeout": ("{}", "timeout", 0.0),
    "F17 seconds": ("timeout: 10s", "timeout", 10.0),
    "F17 a fraction": ("timeout: 1.5s", "timeout", 1.5),
    "F17 an hour": ("timeout: 1h", "timeout", 3600.0),
    "F17 minutes": ("timeout: 5m", "timeout", 300.0),
    "F17 milliseconds": ("timeout: 100ms", "timeout", 0.1),
    "F17 several units": ("timeout: 1h2m3s4ms", "timeout", 3723.004),
    "F17 the least": ("timeout: 1ms", "timeout", 0.001),
    "F17 a millisecond in smaller units": ("timeout: 1000us", "timeout", 0.001),
    "F17 0s is off": ("timeout: 0s", "timeout", 0.0),
    # F18 and 1.3
    "1.3 left out: the default": ("{}", "retries", DEFAULT_RETRIES),
    "1.3 attempts alone: the default's conditions": ("retries: {attempts: 3}", "retries", retried(3)),
    "1.3 an empty block: none": ("retries: {}", "retries", NONE),
    "1.3 no attempts: none": ("retries: {attempts: 0}", "retries", NONE),
    "1.3 conditions": ("retries: {attempts: 1, retryOn: '5xx,reset'}", "retries", retried(1, ("5xx", "reset"))),
    "1.3 trimmed": ("retries: {attempts: 1, retryOn: ' 5xx , reset ,'}", "retries", retried(1, ("5xx", "reset"))),
    "1.3 each once": ("retries: {attempts: 1, retryOn: '5xx,5xx'}", "retries", retried(1, ("5xx",))),
    "1.3 an empty text is the default": ("retries: {attempts: 1, retryOn: ''}", "retries", retried(1)),
    "1.3 statuses": (
        "retries: {attempts: 1, retryOn: '503,429'}",
        "retries",
        retried(1, (STATUS,), (503, 429)),
    ),
    "1.3 statuses among conditions": (
        "retries: {attempts: 1, retryOn: 'reset,503'}",
        "retries",
        retried(1, ("reset", STATUS), (503,)),
    ),
    "1.3 a try's timeout": ("retries: {attempts: 1, perTryTimeout: 2s}", "retries.per_try_timeout", 2.0),
    "1.3 a try's timeout is the rule's": ("retries: {attempts: 1}", "retries.per_try_timeout", 0.0),
    "1.3 back-off, its bound": ("retries: {attempts: 1}", "retries.maximum", 0.25),
    "1.3 back-off, given": ("retries: {attempts: 1, backoff: 100ms}", "retries.base", 0.1),
    "1.3 back-off, ten times": ("retries: {attempts: 1, backoff: 100ms}", "retries.maximum", 1.0),
    "1.3 previous hosts are avoided": ("retries: {attempts: 1}", "retries.avoid_previous", True),
    "1.3 or not": ("retries: {attempts: 1, retryIgnorePreviousHosts: false}", "retries.avoid_previous", False),
    "1.3 localities": ("retries: {attempts: 1, retryRemoteLocalities: true}", "retries.remote_localities", True),
    # F19
    "F19 none": ("{}", "fault", None),
    "F19 a delay": (
        "fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}}",
        "fault",
        Fault(delay=5.0, delay_percent=0.1),
    ),
    "F19 an abort": (
        "fault: {abort: {httpStatus: 503, percentage: {value: 100}}}",
        "fault",
        Fault(abort_status=503, abort_percent=100.0),
    ),
    "F19 both": (
        "fault: {delay: {fixedDelay: 1ms, percentage: {value: 1}},"
        " abort: {httpStatus: 200, percentage: {value: 2}}}",
        "fault",
        Fault(0.001, 1.0, 200, None, None, 2.0),
    ),
    "F19 gRPC": (
        "fault: {abort: {grpcStatus: NOT_FOUND, percentage: {value: 1}}}",
        "fault",
        Fault(abort_grpc=5, abort_percent=1.0),
    ),
    "F19 gRPC by number": (
        "fault: {abort: {grpcStatus: '14', percentage: {value: 1}}}",
        "fault",
        Fault(abort_grpc=14, abort_percent=1.0),
    ),
    "F19 HTTP/2": (
        "fault: {abort: {http2Error: REFUSED_STREAM, percentage: {value: 1}}}",
        "fault",
        Fault(abort_h2=7, abort_percent=1.0),
    ),
    "F19 an empty percentage is 0": (
        "fault: {abort: {httpStatus: 500, percentage: {}}}",
        "fault",
        Fault(abort_status=500),
    ),
    # F20
    "F20 a mirror gets everything": ("mirror: {host: c}", "mirrors", (Mirror(Destination(C)),)),
    "F20 a share": (
        "mirror: {host: c, subset: v2, port: {number: 80}}\nmirrorPercentage: {value: 12.5}",
        "mirrors",
        (Mirror(Destination(C, 80, "v2"), 12.5),),
    ),
    "F20 none": ("mirror: {host: c}\nmirrorPercentage: {}", "mirrors", (Mirror(Destination(C), 0.0),)),
    "F20 several": (
        "mirrors: [{destination: {host: c}}, {destination: {host: b}, percentage: {value: 5}}]",
        "mirrors",
        (Mirror(Destination(C)), Mirror(Destination(B), 5.0)),
    ),
    # F21
    "F21 rewrite of everything": ("rewrite: {uri: /v2}", "rewrite", Rewrite(prefix="/v2")),
    "F21 rewrite of everything replaces the root": (
        "rewrite: {uri: /v2}",
        "matches",
        (RequestMatch(path=Matcher(How.PREFIX, "/")),),
    ),
    "F21 rewrite of a prefix": (
        "match: [{uri: {prefix: /a}}]\nrewrite: {uri: /b}",
        "rewrite",
        Rewrite(prefix="/b"),
    ),
    "F21 rewrite of an exact path": (
        "match: [{uri: {exact: /a}}]\nrewrite: {uri: /b}",
        "rewrite",
        Rewrite(path="/b"),
    ),
    "F21 rewrite of an expression": (
        "match: [{uri: {regex: a}}]\nrewrite: {uri: /b}",
        "rewrite",
        Rewrite(path="/b"),
    ),
    "F21 rewrite of the authority": ("rewrite: {authority: x.com}", "rewrite", Rewrite(authority="x.com")),
    "F21 an authority alone changes no match": ("rewrite: {authority: x.com}", "matches", ()),
    "F21 rewrite by expression": (
        "rewrite: {uriRegexRewrite: {match: '^/a/(.*)$', rewrite: '/b/\\1'}}",
        "rewrite",
        Rewrite(regex="^/a/(.*)$", substitution="/b/\\1"),
    ),
    "F21 rewrite by expression, authority too": (
        "rewrite: {authority: x, uriRegexRewrite: {match: a, rewrite: '\\\\'}}",
        "rewrite",
        Rewrite(regex="a", substitution="\\\\", authority="x"),
    ),
    "F21 redirect": ("redirect: {uri: /new}", "redirect", Redirect(path="/new")),
    "F21 redirect, the whole path whatever matched": (
        "match: [{uri: {prefix: /a}}]\nredirect: {uri: /new}",
        "redirect",
        Redirect(path="/new"),
    ),
    "F21 redirect to a host": ("redirect: {authority: x.com}", "redirect", Redirect(host="x.com")),
    "F21 redirect to a host and port": (
        "redirect: {authority: 'x.com:81'}",
        "redirect",
        Redirect(host="x.com", port=81),
    ),
    "F21 redirect to an IPv6 address": (
        "redirect: {authority: '[fd00::1]:81'}",
        "redirect",
        Redirect(host="[fd00::1]", port=81),
    ),
    "F21 rewrite to a host and port": (
        "rewrite: {authority: 'x.com:81'}",
        "rewrite",
        Rewrite(authority="x.com:81"),
    ),
    "F21 redirect to https": ("redirect: {scheme: https}", "redirect", Redirect(scheme="https")),
    "F21 redirect to a port": ("redirect: {port: 8443}", "redirect", Redirect(port=8443)),
    "F21 redirect, port of the request": (
        "redirect: {uri: /, derivePort: FROM_REQUEST_PORT}",
        "redirect",
        Redirect(path="/", derive_port="request"),
    ),
    "F21 redirect, port of the scheme": (
        "redirect: {derivePort: FROM_PROTOCOL_DEFAULT, redirectCode: 308}",
        "redirect",
        Redirect(derive_port="protocol", status=308),
    ),
    "F21 redirect of a prefix": (
        "match: [{uri: {prefix: /a}}]\nredirect: {prefixRewrite: /b}",
        "redirect",
        Redirect(prefix="/b"),
    ),
    "F21 direct response": ("directResponse: {status: 503}", "direct", DirectResponse(503)),
    "F21 direct response with text": (
        "directResponse: {status: 200, body: {string: 'päng'}}",
        "direct",
        DirectResponse(200, "päng".encode()),
    ),
    "F21 direct response with bytes": (
        "directResponse: {status: 200, body: {bytes: AAH/}}",
        "direct",
        DirectResponse(200, b"\0\1\xff"),
    ),
    # F22
    "F22 set, add, remove": (
        "headers: {request: {set: {X-A: b}, add: {c: d}, remove: [E]}}",
        "request_headers",
        HeaderChanges((("x-a", "b"),), (("c", "d"),), ("e",)),
    ),
    "F22 of the response": (
        "headers: {response: {remove: [server]}}",
        "response_headers",
        HeaderChanges(remove=("server",)),
    ),
    "F22 host": ("headers: {request: {set: {Host: x}}}", "request_headers", HeaderChanges((("host", "x"),))),
    "F22 :authority is host": (
        "headers: {request: {set: {':authority': x}}}",
        "request_headers",
        HeaderChanges((("host", "x"),)),
    ),
    "F22 %% is %": ("headers: {request: {set: {a: '100%%'}}}", "request_headers", HeaderChanges((("a", "100%"),))),
    "F22 an empty block": ("headers: {request: {}}", "request_headers", None),
    "F22 at the destination": (
        "route: [{destination: {host: b}, headers: {request: {set: {a: b}}}}]",
        "destinations.0.request_headers",
        HeaderChanges((("a", "b"),)),
    ),
    "F22 at the destination, response": (
        "route: [{destination: {host: b}, headers: {response: {add: {a: b}}}}]",
        "destinations.0.response_headers",
        HeaderChanges(add=(("a", "b"),)),
    ),
    # F23
    "F23 origins": (
        "corsPolicy: {allowOrigins: [{exact: 'https://a.com'}, {prefix: 'https://'}, {regex: '.*'}]}",
        "cors.allow_origins",
        (Matcher(How.EXACT, "https://a.com"), Matcher(How.PREFIX, "https://"), Matcher(How.REGEX, ".*")),
    ),
    "F23 * is any": ("corsPolicy: {allowOrigins: [{exact: '*'}]}", "cors.allow_origins", (Matcher(How.PRESENT),)),
    "F23 the rest": (
        "corsPolicy: {allowMethods: [GET, '*'], allowHeaders: [X-A, '*'], exposeHeaders: [X-B], maxAge: 24h,"
        " allowCredentials: true, unmatchedPreflights: IGNORE}",
        "cors",
        Cors((), ("GET", "*"), ("X-A", "*"), ("X-B",), 86400.0, True, False),
    ),
    "F23 an empty policy": ("corsPolicy: {}", "cors", Cors()),
    "F23 preflights that do not match go on": (
        "corsPolicy: {unmatchedPreflights: UNSPECIFIED}",
        "cors.forward_unmatched",
        True,
    ),
}


@pytest.mark.parametrize(("text", "path", "expected"), FIELDS.values(), ids=FIELDS)
def test_fields(text: str, path: str, expected: object) -> None:
    found = route(with_rule("" if text == "{}" else text))
    assert reaching(found.http[0], path) == expected
    assert not found.warnings


TOKENS = (
    *(
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "refused-stream",
        "retriable-4xx",
    ),
    *(
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
    ),
    *("deadline-exceeded", "internal", "resource-exhausted", "unavailable"),
)


@pytest.mark.parametrize("token", TOKENS)
def test_each_condition_of_the_retry_table_is_known(token: str) -> None:
    found = route(with_rule(f"retries: {{attempts: 1, retryOn: '{token}'}}"))
    assert (found.http[0].retries.on, found.warnings) == ((token,), ())


#: A rule, where to look, what is there, and what is said.
WARNED: dict[str, tuple[str, str, object, str]] = {
    "1.3 unknown conditions are skipped": (
        "retries: {attempts: 1, retryOn: 'xxx,gateway-error'}",
        "retries.on",
        ("gateway-error",),
        '"xxx" is no condition',
    ),
    "1.3 a number that is no status": (
        "retries: {attempts: 1, retryOn: '99,reset'}",
        "retries.statuses",
        (),
        '"99" is no condition',
    ),
    "1.3 the rest of a block without attempts": (
        "retries: {perTryTimeout: 1s, retryOn: 5xx}",
        "retries",
        NONE,
        "without attempts above 0",
    ),
    "1.3 attempts below 0": ("retries: {attempts: -1, retryOn: 5xx}", "retries", NONE, "without attempts above 0"),
    "F19 a delay without a percentage": (
        "fault: {delay: {fixedDelay: 5s}}",
        "fault",
        Fault(delay=5.0),
        "fault.delay: has no percentage",
    ),
    "F19 an abort without a percentage": (
        "fault: {abort: {httpStatus: 500}}",
        "fault",
        Fault(abort_status=500),
        "fault.abort: has no percentage",
    ),
    "F19 the old percent": (
        "fault: {delay: {fixedDelay: 5s, percent: 50}}",
        "fault",
        Fault(delay=5.0, delay_percent=50.0),
        "percent is deprecated",
    ),
    "F19 the old percent beside the new": (
        "fault: {delay: {fixedDelay: 5s, percent: 50, percentage: {value: 1}}}",
        "fault",
        Fault(delay=5.0, delay_percent=1.0),
        "which wins here",
    ),
    "F19 an abort without a status": (
        "fault: {abort: {percentage: {value: 100}}}",
        "fault",
        Fault(),
        "says no status",
    ),
    "F19 a delay without a delay": (
        "fault: {delay: {percentage: {value: 100}}}",
        "fault",
        Fault(),
        "has no fixedDelay",
    ),
    "F20 mirrorPercent": (
        "mirror: {host: c}\nmirrorPercent: 30",
        "mirrors",
        (Mirror(Destination(C), 30.0),),
        "mirrorPercent is deprecated",
    ),
    "F20 mirror_percent": (
        "mirror: {host: c}\nmirror_percent: 30",
        "mirrors",
        (Mirror(Destination(C), 30.0),),
        "mirror_percent is deprecated",
    ),
    "F20 a percentage without a mirror": ("mirrorPercentage: {value: 3}", "mirrors", (), "but no mirror"),
    "F21 a large body": (
        f"directResponse: {{status: 200, body: {{string: {'a' * 102_401}}}}}",
        "direct.status",
        200,
        "is large",
    ),
    "F23 allowOrigin": (
        "corsPolicy: {allowOrigin: ['*', 'https://a']}",
        "cors.allow_origins",
        (Matcher(How.PRESENT), Matcher(How.EXACT, "https://a")),
        "allowOrigin is deprecated",
    ),
    "F23 allowOrigin beside allowOrigins": (
        "corsPolicy: {allowOrigin: [b], allowOrigins: [{exact: a}]}",
        "cors.allow_origins",
        (Matcher(How.EXACT, "a"),),
        "which wins here",
    ),
}


@pytest.mark.parametrize(("text", "path", "expected", "said"), WARNED.values(), ids=WARNED)
def test_what_is_said(text: str, path: str, expected: object, said: str) -> None:
    found = route(with_rule(text))
    assert reaching(found.http[0], path) == expected
    (warning,) = found.warnings
    assert said in warning and warning.startswith("spec.http[0]")


REFUSED: dict[str, tuple[str, str, str]] = {
    "F17 a bare number": ("timeout: 10", "timeout", "put it in quotes"),
    "F17 a number as text": ("timeout: '10'", "timeout", "is no duration"),
    "F17 an unknown unit": ("timeout: 10d", "timeout", "is no duration"),
    "F17 empty": ("timeout: ''", "timeout", "is no duration"),
    "F17 negative": ("timeout: -1s", "timeout", "is no duration"),
    "F17 a space": ("timeout: 1 s", "timeout", "is no duration"),
    "F17 finer than a millisecond": ("timeout: 1500us", "timeout", "whole milliseconds"),
    "F17 nanoseconds": ("timeout: 1ns", "timeout", "whole milliseconds"),
    "F17 longer than protobuf has it": ("timeout: 99999999999999h", "timeout", "is longer than"),
    "1.3 attempts as text": ("retries: {attempts: '3'}", "retries.attempts", "without quotes"),
    "1.3 a fraction of an attempt": ("retries: {attempts: 1.5}", "retries.attempts", "whole number"),
    "1.3 conditions as a list": ("retries: {attempts: 1, retryOn: [5xx]}", "retries.retryOn", "must be a string"),
    "1.3 a try's timeout that is none": (
        "retries: {attempts: 1, perTryTimeout: soon}",
        "retries.perTryTimeout",
        "is no duration",
    ),
    "1.3 a back-off of nothing": ("retries: {attempts: 1, backoff: 0s}", "retries.backoff", "at least 1ms"),
    "1.3 an unknown field": ("retries: {attempts: 1, perTry: 1s}", "retries.perTry", "unknown field"),
    "1.3 a flag as text": (
        "retries: {attempts: 1, retryRemoteLocalities: 'true'}",
        "retries.retryRemoteLocalities",
        "true or false",
    ),
    "F19 nothing": ("fault: {}", "fault", "needs a delay, an abort"),
    "F19 exponential": (
        "fault: {delay: {exponentialDelay: 1s}}",
        "fault.delay.exponentialDelay",
        "was never in effect",
    ),
    "F19 a delay of nothing": ("fault: {delay: {fixedDelay: 0s}}", "fault.delay.fixedDelay", "at least 1ms"),
    "F19 more than all": (
        "fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}",
        "fault.delay.percentage.value",
        "must be 0 to 100",
    ),
    "F19 less than none": (
        "fault: {abort: {httpStatus: 500, percentage: {value: -0.1}}}",
        "fault.abort.percentage.value",
        "must be 0 to 100",
    ),
    "F19 a percentage as text": (
        "fault: {abort: {httpStatus: 500, percentage: {value: '5'}}}",
        "fault.abort.percentage.value",
        "must be a number",
    ),
    "F19 a bare percentage": (
        "fault: {abort: {httpStatus: 500, percentage: 5}}",
        "fault.abort.percentage",
        "must be a mapping",
    ),
    "F19 not a number at all": (
        "fault: {abort: {httpStatus: 500, percentage: {value: .nan}}}",
        "fault.abort.percentage.value",
        "is no number",
    ),
    "F19 status 199": ("fault: {abort: {httpStatus: 199}}", "fault.abort.httpStatus", "must be 200 to 599"),
    "F19 status 600": (
        "fault: {abort: {httpStatus: 600, percentage: {value: 1}}}",
        "fault.abort.httpStatus",
        "must be 200 to 599",
    ),
    "F19 two statuses": (
        "fault: {abort: {httpStatus: 500, grpcStatus: UNKNOWN}}",
        "fault.abort",
        "exclude each other",
    ),
    "F19 an unknown gRPC status": (
        "fault: {abort: {grpcStatus: NOPE, percentage: {value: 1}}}",
        "fault.abort.grpcStatus",
        "is none of OK",
    ),
    "F19 an unknown HTTP/2 error": (
        "fault: {abort: {http2Error: '14', percentage: {value: 1}}}",
        "fault.abort.http2Error",
        "is none of NO_ERROR",
    ),
    "F20 both forms": ("mirror: {host: c}\nmirrors: [{destination: {host: c}}]", "mirrors", "exclude each other"),
    "F20 no destination": ("mirrors: [{percentage: {value: 1}}]", "mirrors[0].destination", "is missing"),
    "F20 no host": ("mirror: {subset: v1}", "mirror.host", "is missing"),
    "F20 a weight": ("mirror: {host: c, weight: 1}", "mirror.weight", "unknown field"),
    "F20 more than all": ("mirror: {host: c}\nmirrorPercent: 101", "mirrorPercent", "must be 0 to 100"),
    "F20 more than all, new": (
        "mirror: {host: c}\nmirrorPercentage: {value: 100.1}",
        "mirrorPercentage.value",
        "must be 0 to 100",
    ),
    "F21 redirect and route": (
        "redirect: {uri: /}\nroute: [{destination: {host: b}}]",
        "route",
        "exclude each other",
    ),
    "F21 redirect and fault": (
        "redirect: {uri: /}\nfault: {abort: {httpStatus: 500}}",
        "fault",
        "exclude each other",
    ),
    "F21 redirect and rewrite": ("redirect: {uri: /}\nrewrite: {uri: /}", "rewrite", "exclude each other"),
    "F21 redirect and direct response": (
        "redirect: {uri: /}\ndirectResponse: {status: 200}",
        "directResponse",
        "exclude each other",
    ),
    "F21 direct response and route": (
        "directResponse: {status: 200}\nroute: [{destination: {host: b}}]",
        "route",
        "exclude each other",
    ),
    "F21 direct response and fault": (
        "directResponse: {status: 200}\nfault: {abort: {httpStatus: 500}}",
        "fault",
        "exclude each other",
    ),
    "F21 direct response and rewrite": (
        "directResponse: {status: 200}\nrewrite: {uri: /}",
        "rewrite",
        "exclude each other",
    ),
    "F21 an empty redirect": ("redirect: {}", "redirect", "needs uri, authority, scheme or port"),
    "F21 a redirect with a status alone": ("redirect: {redirectCode: 302}", "redirect", "needs uri"),
    "F21 redirect with 299": ("redirect: {uri: /, redirectCode: 299}", "redirect.redirectCode", "300 to 399"),
    "F21 redirect with 400": ("redirect: {uri: /, redirectCode: 400}", "redirect.redirectCode", "300 to 399"),
    "F21 redirect to another scheme": ("redirect: {scheme: ftp}", "redirect.scheme", "is not one of"),
    "F21 redirect to port 0": ("redirect: {port: 0}", "redirect.port", "1 to 65535"),
    "F21 redirect with two ports": (
        "redirect: {port: 1, derivePort: FROM_REQUEST_PORT}",
        "redirect.derivePort",
        "exclude each other",
    ),
    "F21 redirect with an unknown port": (
        "redirect: {derivePort: FROM_NOWHERE}",
        "redirect.derivePort",
        "is not one of",
    ),
    "F21 redirect with two paths": (
        "redirect: {uri: /a, prefixRewrite: /b}",
        "redirect.prefixRewrite",
        "exclude each other",
    ),
    "F21 redirect with a line break": ('redirect: {uri: "/a\\r\\nx: y"}', "redirect.uri", "no path may have"),
    "F21 redirect to an authority with a path": (
        "redirect: {authority: a/b}",
        "redirect.authority",
        "is no authority",
    ),
    "F21 redirect to two ports": (
        "redirect: {authority: 'a:1', port: 2}",
        "redirect.authority",
        "another beside it",
    ),
    "F21 redirect to a port that is none": (
        "redirect: {authority: 'a:0'}",
        "redirect.authority",
        "is no authority",
    ),
    "F21 redirect to an address without brackets": (
        "redirect: {authority: 'fd00::1'}",
        "redirect.authority",
        "is no authority",
    ),
    "F21 redirect to a user": ("redirect: {authority: a@b}", "redirect.authority", "is no authority"),
    "F21 an empty rewrite": ("rewrite: {}", "rewrite", "needs uri, uriRegexRewrite or authority"),
    "F21 two rewrites": (
        "rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}",
        "rewrite.uriRegexRewrite",
        "exclude each other",
    ),
    "F21 an expression without substitution": (
        "rewrite: {uriRegexRewrite: {match: a}}",
        "rewrite.uriRegexRewrite.rewrite",
        "is missing",
    ),
    "F21 an expression that is none": (
        "rewrite: {uriRegexRewrite: {match: 'a[', rewrite: b}}",
        "rewrite.uriRegexRewrite.match",
        "is no regular expression",
    ),
    "F21 a group that is not there": (
        "rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}",
        "rewrite.uriRegexRewrite.rewrite",
        "stand for groups",
    ),
    "F21 a backslash at the end": (
        "rewrite: {uriRegexRewrite: {match: a, rewrite: 'b\\'}}",
        "rewrite.uriRegexRewrite.rewrite",
        "stand for groups",
    ),
    "F21 a path with a space": ("rewrite: {uri: /a b}", "rewrite.uri", "no path may have"),
    "F21 a direct response without status": ("directResponse: {}", "directResponse.status", "is missing"),
    "F21 a direct response with 100": ("directResponse: {status: 100}", "directResponse.status", "200 to 599"),
    "F21 two bodies": (
        "directResponse: {status: 200, body: {string: a, bytes: YQ==}}",
        "directResponse.body",
        "exclude each other",
    ),
    "F21 no base64": (
        "directResponse: {status: 200, body: {bytes: '!'}}",
        "directResponse.body.bytes",
        "must be in base64",
    ),
    "F21 too large a body": (
        f"directResponse: {{status: 200, body: {{string: {'ä' * 600_000}}}}}",
        "directResponse.body",
        "larger than 1 MiB",
    ),
    "F22 a pseudo-header": (
        "headers: {request: {set: {':path': /}}}",
        'headers.request.set[":path"]',
        "cannot be changed",
    ),
    "F22 host of a response": (
        "headers: {response: {set: {host: a}}}",
        "headers.response.set.host",
        "cannot be changed",
    ),
    "F22 host removed": ("headers: {request: {remove: [Host]}}", "headers.request.remove[0]", "cannot be changed"),
    "F22 no name": ("headers: {request: {set: {'': a}}}", 'headers.request.set[""]', "is no name of a header"),
    "F22 no name to remove": (
        "headers: {request: {remove: ['']}}",
        "headers.request.remove[0]",
        "must not be empty",
    ),
    "F22 a line break": (
        'headers: {request: {set: {a: "b\\r\\nc: d"}}}',
        "headers.request.set.a",
        "no header may have",
    ),
    "F22 a number": ("headers: {request: {add: {a: 1}}}", "headers.request.add.a", "put it in quotes"),
    "F22 a lone %": ("headers: {request: {set: {a: 100%}}}", "headers.request.set.a", "is written %%"),
    "F22 a formatter": (
        "headers: {request: {set: {a: 'x %REQ(b)%'}}}",
        "headers.request.set.a",
        "formatters in headers",
    ),
    "F22 an unknown operation": ("headers: {request: {append: {a: b}}}", "headers.request.append", "unknown field"),
    "F22 an unknown side": ("headers: {set: {a: b}}", "headers.set", "unknown field"),
    "F22 the authority twice": (
        "rewrite: {authority: a}\nheaders: {request: {set: {host: b}}}",
        "headers",
        "one of them only",
    ),
    "F23 an empty origin": ("corsPolicy: {allowOrigins: [{}]}", "corsPolicy.allowOrigins[0]", "something in it"),
    "F23 an empty exact origin": (
        "corsPolicy: {allowOrigins: [{exact: ''}]}",
        "corsPolicy.allowOrigins[0]",
        "something in it",
    ),
    "F23 an origin as text": ("corsPolicy: {allowOrigins: [a]}", "corsPolicy.allowOrigins[0]", "must be a mapping"),
    "F23 an unknown method": ("corsPolicy: {allowMethods: [FETCH]}", "corsPolicy.allowMethods[0]", "is not one of"),
    "F23 a method in lower case": (
        "corsPolicy: {allowMethods: [get]}",
        "corsPolicy.allowMethods[0]",
        "is not one of",
    ),
    "F23 no name of a header": ("corsPolicy: {allowHeaders: ['a b']}", "corsPolicy.allowHeaders[0]", "is no name"),
    "F23 a part of a second": ("corsPolicy: {maxAge: 1500ms}", "corsPolicy.maxAge", "whole seconds"),
    "F23 unknown preflights": (
        "corsPolicy: {unmatchedPreflights: DROP}",
        "corsPolicy.unmatchedPreflights",
        "is not one of",
    ),
    "an unknown field": ("websocketUpgrade: true", "websocketUpgrade", "unknown field"),
    "a name that is none": ("name: 5", "name", "put it in quotes"),
}


@pytest.mark.parametrize(("text", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, path: str, reason: str) -> None:
    error = refusal(istio("VirtualService", with_rule(text)))
    assert error.where.path == f"spec.http[0].{path}"
    assert reason in error.reason
    assert error.where.file == "manifest.yaml" and error.where.line > 0


def test_formatters_are_not_enforced_yet() -> None:
    error = refusal(istio("VirtualService", with_rule("headers: {request: {set: {a: '%PROTOCOL%'}}}")))
    assert error.not_enforced


# One entry, several rules


def test_a_rewrite_is_taken_apart_by_what_matched_and_keeps_the_order() -> None:
    found = route(
        with_rule(
            """
            match: [{uri: {exact: /a}}, {uri: {regex: /b}}, {uri: {prefix: /c}}, {port: 80}, {uri: {exact: /d}}]
            rewrite: {uri: /x, authority: h}
            """
        )
    )
    whole, prefix = Rewrite(path="/x", authority="h"), Rewrite(prefix="/x", authority="h")
    assert [(len(each.matches), each.rewrite) for each in found.http] == [(2, whole), (2, prefix), (1, whole)]
    assert found.http[1].matches[1] == RequestMatch(path=Matcher(How.PREFIX, "/"), port=80)
    assert {each.origin.path for each in found.http} == {"spec.http[0]"}


def test_a_redirect_of_prefixes_is_taken_apart_too() -> None:
    found = route(with_rule("match: [{uri: {exact: /a}}, {uri: {prefix: /b}}]\nredirect: {prefixRewrite: /x}"))
    assert [each.redirect for each in found.http] == [Redirect(path="/x"), Redirect(prefix="/x")]


def test_a_rule_that_replaces_nothing_stays_one() -> None:
    assert len(rule("match: [{uri: {exact: /a}}, {uri: {prefix: /b}}]\nrewrite: {authority: h}").matches) == 2


def test_the_rewrite_of_a_rule_that_delegates_stays_as_it_is() -> None:
    found = rule("delegate: {name: other}\nrewrite: {uri: /x}")
    assert (found.matches, found.rewrite) == ((), Rewrite(prefix="/x"))

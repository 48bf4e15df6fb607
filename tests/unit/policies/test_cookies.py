"""A cookie names a set of rules: the same number for the same set, in every run."""

from __future__ import annotations

import pytest

from weft.policies import cookies as module
from weft.policies.cookies import Cookies, Credit
from weft.policies.model import ObjectRef, Origin


def credit(path: str, name: str = "x") -> Credit:
    return Credit.to(Origin(ObjectRef("CiliumNetworkPolicy", "default", name), path))


A, B, C = credit("spec.ingress[0]"), credit("spec.ingress[1]"), credit("spec.ingress[0]", "y")


def test_no_rule_is_zero() -> None:
    assert Cookies().intern([]) == 0
    assert Cookies().origins(0) == ()


def test_a_set_has_one_number_whatever_the_order_and_however_often() -> None:
    cookies = Cookies()
    number = cookies.intern([A, B, C])
    assert number == cookies.intern([C, A, B, A])
    assert cookies.origins(number) == (A.origin, B.origin, C.origin)
    assert len({cookies.intern(one) for one in ([A], [B], [C], [A, B], [A, C], [A, B, C])}) == 6


def test_another_run_gives_the_same_number() -> None:
    before, after = Cookies(), Cookies()
    after.intern([C])
    assert before.intern([A, B]) == after.intern([B, A])


def test_two_sets_with_one_digest_get_two_numbers() -> None:
    swapped = (A.digest & 0xFFFFFFFF) << 32 | A.digest >> 32  # folds to the same 32 bits
    cookies = Cookies()
    first, second = cookies.intern([A]), cookies.intern([Credit("twin", B.origin, swapped)])
    assert second == first + 1
    assert (cookies.origins(first), cookies.origins(second)) == ((A.origin,), (B.origin,))


def test_forgetting_takes_the_oldest_that_no_table_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    cookies = Cookies()
    a, b, c, ab = (cookies.intern(one) for one in ([A], [B], [C], [A, B]))
    cookies.retain([a])
    assert [bool(cookies.origins(number)) for number in (a, b, c, ab)] == [True, False, False, True]
    assert cookies.intern([B]) == b, "and what comes back has its number back"

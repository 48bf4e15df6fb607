"""Files in, puts and removals out: nothing is lost by a broken file, and nobody's object is taken."""

from __future__ import annotations

import pytest

from weft.operator.admit import Admitted, admit, carried_over, document_of
from weft.operator.declared import Declarations, Plan, read
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef
from weft.policies.objects import Pod

A, B = "/w/a.yaml", "/w/b.yaml"


def ns(*names: str) -> str:
    return "---\n".join(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n" for name in names)


def ref(name: str) -> ObjectRef:
    return ObjectRef("Namespace", "", name)


REFUSED = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: 7}\n"
NAMELESS = "---\napiVersion: v1\nkind: Namespace\nmetadata: {labels: {a: b}}\n"


class Files:
    """Declarations, and the objects that follow from the plans they make."""

    def __init__(self, owners: dict[ObjectRef, str] | None = None) -> None:
        self.declarations = Declarations(owners or {})
        self.objects = {ref.name: file for ref, file in (owners or {}).items()}

    def save(self, file: str, text: str, *, finished: bool = True) -> Plan:
        return self.act(self.declarations.declare(file, read(text, file, "default"), finished=finished))

    def delete(self, file: str) -> Plan:
        return self.act(self.declarations.withdraw(file))

    def act(self, plan: Plan) -> Plan:
        for admitted in plan.put:
            self.objects[admitted.ref.name] = admitted.file
        for gone in plan.remove:
            del self.objects[gone.name]
        return plan

    def reasons(self) -> list[str]:
        return [f"{notice.where}: {notice.reason}" for notice in self.declarations.notices()]


def test_a_file_declares_changes_and_gives_up_objects() -> None:
    files = Files()
    files.save(A, ns("x", "w"))
    files.save(B, ns("z"))
    assert files.objects == {"x": A, "w": A, "z": B}
    files.save(A, ns("w"))
    assert files.objects == {"w": A, "z": B}
    files.delete(A)
    files.delete("/w/never-seen.yaml")
    assert files.objects == {"z": B} and files.reasons() == []


@pytest.mark.parametrize(
    "text",
    ["{", "a: [", "\t- x", "just text", "- 1", "&a [*a]", "a: 1\na: 2", ns("w") + NAMELESS, ns("w") + "---\n{}\n"],
)
def test_a_broken_file_keeps_everything_it_had(text: str) -> None:
    files = Files()
    files.save(A, ns("x", "w"))
    files.save(A, text)
    assert files.objects == {"x": A, "w": A}
    assert files.reasons() and files.reasons()[0].startswith(A)
    files.save(A, ns("x"))
    assert files.objects == {"x": A} and files.reasons() == []


def test_an_object_that_is_refused_keeps_its_last_good_version_and_the_rest_of_the_file_counts() -> None:
    files = Files()
    good = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n"
    files.save(A, ns("x") + good)
    plan = files.save(A, ns("w") + REFUSED)
    assert [admitted.ref.name for admitted in plan.put] == ["w"]
    assert plan.remove == [ref("x")]
    assert set(files.objects) == {"w", "p"}
    assert any("Pod default/p" in reason and "containers" in reason for reason in files.reasons())


def test_one_object_in_two_files_belongs_to_the_first_until_it_gives_it_up() -> None:
    files = Files()
    files.save(B, ns("x"))
    files.save(A, ns("x"))
    assert files.objects == {"x": B}
    assert files.reasons() == [f"{A}:1: Namespace x: is declared by {B} already"]
    files.delete(B)
    assert files.objects == {"x": A} and files.reasons() == []


def test_an_object_twice_in_one_file_is_refused_the_second_time() -> None:
    files = Files()
    plan = files.save(A, ns("x", "x"))
    assert len(plan.put) == 1
    assert "is in this file already, line 1" in files.reasons()[0]


def test_owners_from_an_earlier_life_are_owners_still() -> None:
    files = Files({ref("x"): B, ref("w"): B})
    files.save(A, ns("x"))
    assert files.objects["x"] == B
    files.save(B, ns("x"))
    assert files.objects == {"x": B}
    files.delete(B)
    assert files.objects == {"x": A}


def test_a_file_that_is_broken_at_the_start_keeps_what_it_had_in_the_earlier_life() -> None:
    files = Files({ref("x"): A})
    files.save(A, "{")
    assert files.objects == {"x": A}


def test_what_is_missing_from_an_unfinished_file_is_withheld() -> None:
    files = Files()
    files.save(A, ns("x", "w"))
    plan = files.save(A, ns("z"), finished=False)
    assert plan.withheld and set(files.objects) == {"x", "w", "z"}
    assert not files.save(A, ns("x", "w", "z"), finished=False).withheld
    assert files.save(A, "", finished=False).withheld
    assert set(files.objects) == {"x", "w", "z"}
    files.save(A, "")
    assert files.objects == {}


def test_what_a_file_declares_is_known_as_it_was_when_it_was_last_right() -> None:
    files = Files()
    files.save(A, ns("x"))
    files.save(A, "{")
    declared = files.declarations.declared(ref("x"))
    assert declared and declared.manifest["metadata"] == {"name": "x"}
    files.delete(A)
    assert files.declarations.declared(ref("x")) is None


# the border


def test_an_object_names_its_namespace_once_it_is_in() -> None:
    text = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{}}'
    admitted = admit(document_of(text), "shop")
    assert isinstance(admitted.meaning, Pod) and admitted.meaning.namespace == "shop"
    assert admitted.manifest["metadata"] == {"name": "p", "namespace": "shop"}


def test_kinds_that_are_not_the_meshs_are_kept() -> None:
    text = '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"}}'
    admitted = admit(document_of(text), "default")
    assert admitted.meaning is None and admitted.ref == ObjectRef("Deployment", "default", "d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{",
        "{}",
        '{"kind":"Pod"}',
        '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"\\ud800"}}',
        '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n","labels":{"a":"\\ud800"}}}',
        '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"},"x":NaN}',
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"n"},"x":' + "[" * 5000 + "]" * 5000 + "}",
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"n"},"x":"' + "x" * (3 << 20) + '"}',
        '{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"n"},"spec":{}}',
    ],
    ids=range(12),
)
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        admit(document_of(text), "default")


GIVEN = {"clusterIP": "a", "clusterIPs": ["a", "b"]}


def pod(spec: dict, **more: object) -> dict:
    return {"kind": "Pod", "spec": spec, **more}


def service(spec: dict) -> dict:
    return {"kind": "Service", "spec": spec}


@pytest.mark.parametrize(
    ("before", "declared", "merged"),
    [
        (pod({}, status={"a": 1}), pod({"x": 1}), pod({"x": 1}, status={"a": 1})),
        (pod({}, status={"a": 1}), pod({}, status={"a": 2}), pod({}, status={"a": 2})),
        (pod({"nodeName": "n", "x": 1}), pod({}), pod({"nodeName": "n"})),
        (pod({"nodeName": "n"}), pod({"nodeName": "m"}), pod({"nodeName": "m"})),
        (service(GIVEN), service({}), service(GIVEN)),
        (service(GIVEN), service({"clusterIP": "None"}), service({"clusterIP": "None"})),
        (
            service({"ports": [{"port": 80, "nodePort": 30000}, {"port": 81, "nodePort": 30001}, 7]}),
            service({"ports": [{"port": 81, "name": "x"}, {"port": 80, "protocol": "UDP"}, None]}),
            service(
                {"ports": [{"port": 81, "name": "x", "nodePort": 30001}, {"port": 80, "protocol": "UDP"}, None]}
            ),
        ),
        (service({"clusterIP": "a"}), {"kind": "Service", "spec": 7}, {"kind": "Service", "spec": 7}),
        ({"kind": "X", "spec": {"nodeName": "n"}}, {"kind": "X", "spec": {}}, {"kind": "X", "spec": {}}),
    ],
    ids=[
        "a status stays",
        "a new status counts",
        "a pod stays on its node",
        "a new node counts",
        "a service keeps its addresses",
        "unless it says otherwise",
        "a port keeps its node port",
        "nonsense is left alone",
        "other kinds keep nothing",
    ],
)
def test_what_others_added_to_an_object_is_carried_over(before: dict, declared: dict, merged: dict) -> None:
    assert carried_over(before, declared) == merged


def test_admitted_things_know_their_file_and_line() -> None:
    plan = Files().save(A, ns("x", "w"))
    assert [(a.file, a.line) for a in plan.put if isinstance(a, Admitted)] == [(A, 1), (A, 5)]

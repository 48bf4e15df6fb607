"""What the watched files declare, file by file. Pure: contents in, puts and removals out.

1. An object belongs to the file that declared it first; in another file it is refused until the first gives it up.
2. A file that is broken keeps everything it had; a refused object keeps its last good version.
3. What a file no longer names is removed, unless something in the file is so broken that it has no name: then it
   may be that very object, and everything stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from weft.operator.admit import Admitted, admit
from weft.policies.dialects import registry
from weft.policies.errors import Invalid, Where
from weft.policies.model import ObjectRef
from weft.policies.yamldoc import Document, documents


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to show to people; `warning`: it is in force nevertheless."""

    where: Where
    reason: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """One file, read. `refused`: objects named in it that keep their last good version; `certain` False: there may
    be more of them, nobody can say which."""

    good: dict[ObjectRef, Admitted] = field(default_factory=dict)
    refused: frozenset[ObjectRef] = frozenset()
    certain: bool = True
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """`withheld`: objects that the file no longer names, not removed because its writer may not have finished."""

    put: list[Admitted]
    remove: list[ObjectRef]
    withheld: bool = False


def read(text: str, file: str, default_namespace: str) -> Contents:
    try:
        found = documents(text, file)
    except Invalid as error:
        return broken(error.where, error.reason)
    good: dict[ObjectRef, Admitted] = {}
    refused: set[ObjectRef] = set()
    notices: list[Notice] = []
    certain = True
    for document in found:
        try:
            admitted = admit(document, default_namespace)
            if admitted.ref in good:
                raise Invalid(
                    _where(document, admitted.ref), f"is in this file already, line {good[admitted.ref].line}"
                )
        except Invalid as error:
            notices.append(Notice(error.where, error.reason))
            ref = _name(document, default_namespace)
            certain = certain and ref is not None
            refused |= {ref} if ref else set()
        else:
            good[admitted.ref] = admitted
            notices += [Notice(_where(document, admitted.ref), text, True) for text in admitted.warnings]
    return Contents(good, frozenset(refused), certain, tuple(notices))


def broken(where: Where, reason: str) -> Contents:
    return Contents(certain=False, notices=(Notice(where, reason),))


class Declarations:
    """`owners`: whose the objects are already (loaded from the state folder)."""

    def __init__(self, owners: dict[ObjectRef, str]) -> None:
        self._owner = dict(owners)
        self._files: dict[str, Contents] = {}
        self._owned: dict[str, set[ObjectRef]] = {}
        self._last_good: dict[ObjectRef, Admitted] = {}
        for ref, file in owners.items():
            self._owned.setdefault(file, set()).add(ref)

    def files(self) -> set[str]:
        """All that declare something, read or not."""
        return set(self._owned) | set(self._files)

    def declared(self, ref: ObjectRef) -> Admitted | None:
        """As its file had it when it was last right. None: no file declares it, or none has been right yet."""
        return self._last_good.get(ref)

    def declare(self, file: str, contents: Contents, *, finished: bool = True) -> Plan:
        """`finished`: the file has not changed for a while. What is new counts at once, what is missing only then:
        an editor that writes in place truncates first, and a policy must not be lifted for that moment."""
        self._files[file] = contents
        put = [a for ref, a in contents.good.items() if self._owner.setdefault(ref, file) == file]
        self._owned.setdefault(file, set()).update(admitted.ref for admitted in put)
        kept = contents.good.keys() | contents.refused
        lost = self._owned[file] - kept if contents.certain else set()
        if lost and not finished:
            return self._planned(Plan(put, [], withheld=True))
        return self._disowned(file, lost, put)

    def withdraw(self, file: str) -> Plan:
        """The file is gone."""
        self._files.pop(file, None)
        return self._disowned(file, set(self._owned.get(file, ())), [])

    def notices(self) -> list[Notice]:
        found: list[Notice] = []
        for file in sorted(self._files):
            contents = self._files[file]
            found += contents.notices
            for ref, admitted in contents.good.items():
                if self._owner[ref] != file:
                    where = Where(file, admitted.line, str(ref))
                    found.append(Notice(where, f"is declared by {self._owner[ref]} already"))
        return found

    def _disowned(self, file: str, lost: set[ObjectRef], put: list[Admitted]) -> Plan:
        """Objects that `file` gave up go to the next file that names them, else they are removed."""
        remove = []
        for ref in sorted(lost):
            self._owned[file].discard(ref)
            del self._owner[ref]
            heir = next((other for other in sorted(self._files) if ref in self._files[other].good), None)
            if heir is None:
                remove.append(ref)
            else:
                self._owner[ref] = heir
                self._owned.setdefault(heir, set()).add(ref)
                put.append(self._files[heir].good[ref])
        if not self._owned.get(file):
            self._owned.pop(file, None)
        return self._planned(Plan(put, remove))

    def _planned(self, plan: Plan) -> Plan:
        for ref in plan.remove:
            self._last_good.pop(ref, None)
        self._last_good.update((admitted.ref, admitted) for admitted in plan.put)
        return plan


def _where(document: Document, ref: ObjectRef) -> Where:
    return Where(document.file, document.line, str(ref))


def _name(document: Document, default_namespace: str) -> ObjectRef | None:
    try:
        return registry.ref_of(document, default_namespace)
    except Invalid:
        return None

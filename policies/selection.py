"""Which identities a selector means, kept current: an index from labels to identities, and one from labels to the
selectors that could match them.

A selector that is in use (`acquire`) becomes a Selection whose `ids` are always right: evaluating a new selector
is set algebra over postings, and a new identity is shown only to the selectors that its labels can concern.
"""

from __future__ import annotations

from collections import Counter

from weft.policies.labels import ANY_SOURCE, CLUSTER_KEY, NAMESPACE_KEY, Labels, Op, Requirement, Selector

#: Keys that nearly every identity has: the worst anchors.
_COMMON = (NAMESPACE_KEY, CLUSTER_KEY)

Posting = tuple[str, str, str | None]  # source, key, value; None: the key with any value


class Selection:
    """One selector in use. Equal selectors share one Selection, and so one `frozen` set."""

    __slots__ = ("_frozen", "count", "ids", "selector")

    def __init__(self, selector: Selector, ids: set[int]) -> None:
        self.selector = selector
        self.ids = ids
        self.count = 0
        self._frozen: frozenset[int] | None = None

    @property
    def frozen(self) -> frozenset[int]:
        if self._frozen is None:
            self._frozen = frozenset(self.ids)
        return self._frozen

    def touch(self) -> None:
        self._frozen = None


class Index:
    """`mentioned` counts, by label key, the selectors in use that name it."""

    def __init__(self) -> None:
        self.mentioned: Counter[str] = Counter()
        self._labels: dict[int, Labels] = {}
        self._postings: dict[Posting, set[int]] = {}
        self._selections: dict[Selector, Selection] = {}
        self._anchored: dict[tuple[str, str | None], set[Selection]] = {}
        self._unanchored: set[Selection] = set()
        self._holders: dict[int, set[Selection]] = {}

    def add(self, number: int, labels: Labels) -> list[Selection]:
        """A new identity. Returns the selections that it changed."""
        self._labels[number] = labels
        for posting in _postings_of(labels):
            self._postings.setdefault(posting, set()).add(number)
        changed = [s for s in self._candidates(labels) if s.selector.matches(labels)]
        for selection in changed:
            selection.ids.add(number)
            selection.touch()
        self._holders[number] = set(changed)
        return changed

    def remove(self, number: int) -> list[Selection]:
        for posting in _postings_of(self._labels.pop(number)):
            numbers = self._postings[posting]
            numbers.discard(number)
            if not numbers:
                del self._postings[posting]
        changed = list(self._holders.pop(number))
        for selection in changed:
            selection.ids.discard(number)
            selection.touch()
        return changed

    def acquire(self, selector: Selector) -> Selection:
        selection = self._selections.get(selector)
        if selection is None:
            selection = self._selections[selector] = Selection(selector, self.select(selector))
            self._enter(selection)
        selection.count += 1
        return selection

    def release(self, selection: Selection) -> None:
        selection.count -= 1
        if selection.count == 0:
            del self._selections[selection.selector]
            self._leave(selection)

    def select(self, selector: Selector) -> set[int]:
        """The identities of now that match, from the postings alone."""
        positive = sorted((self._having(r) for r in selector.requirements if _is_positive(r)), key=len)
        chosen = set(positive[0] if positive else self._labels)
        for numbers in positive[1:]:
            chosen &= numbers
        for requirement in selector.requirements:
            if not _is_positive(requirement):
                chosen -= self._having(requirement)
        return chosen

    def _having(self, requirement: Requirement) -> set[int]:
        """The identities with the label that the requirement names, whether it wants it or not."""
        source, key = requirement.source, requirement.key
        if requirement.op in (Op.EXISTS, Op.DOES_NOT_EXIST):
            return self._postings.get((source, key, None), set())
        if len(requirement.values) == 1:
            return self._postings.get((source, key, requirement.values[0]), set())
        return set().union(*(self._postings.get((source, key, value), ()) for value in requirement.values))

    def _enter(self, selection: Selection) -> None:
        self.mentioned.update({r.key for r in selection.selector.requirements})
        for place in self._places(selection.selector):
            place.add(selection)
        for number in selection.ids:
            self._holders[number].add(selection)

    def _leave(self, selection: Selection) -> None:
        self.mentioned.subtract({r.key for r in selection.selector.requirements})
        self.mentioned = +self.mentioned
        for anchor in _anchors(selection.selector):
            self._anchored[anchor].discard(selection)
            if not self._anchored[anchor]:
                del self._anchored[anchor]
        self._unanchored.discard(selection)
        for number in selection.ids:
            self._holders[number].discard(selection)

    def _places(self, selector: Selector) -> list[set[Selection]]:
        anchors = _anchors(selector)
        return [self._anchored.setdefault(a, set()) for a in anchors] if anchors else [self._unanchored]

    def _candidates(self, labels: Labels) -> set[Selection]:
        found = set(self._unanchored)
        for label in labels:
            found |= self._anchored.get((label.key, label.value), set())
            found |= self._anchored.get((label.key, None), set())
        return found


def _postings_of(labels: Labels) -> set[Posting]:
    """A set, for two labels may share a key, or a key and a value under two sources."""
    found: set[Posting] = set()
    for source, key, value in labels:
        found |= {(source, key, value), (source, key, None), (ANY_SOURCE, key, value), (ANY_SOURCE, key, None)}
    return found


def _is_positive(requirement: Requirement) -> bool:
    return requirement.op in (Op.IN, Op.EXISTS)


def _anchors(selector: Selector) -> list[tuple[str, str | None]]:
    """The labels one of which an identity must have to match: those of the most telling requirement. Empty: the
    selector has only negative requirements, any identity may match."""
    positive = [r for r in selector.requirements if _is_positive(r)]
    if not positive:
        return []
    best = min(positive, key=lambda r: (r.key in _COMMON, r.op is Op.EXISTS, len(r.values)))
    return [(best.key, None)] if best.op is Op.EXISTS else [(best.key, value) for value in set(best.values)]

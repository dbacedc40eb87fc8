r"""Matches whole texts with regular expressions: a subset of RE2's, in time linear in the text.

Strangers send the expressions, so nothing here goes back to try again, as Python's own ``re`` does.
An expression is taken as its *positions* (Glushkov's construction): one for each character that it
can consume. From each position it is known which ones may follow. So a text is read once, with the
set of the positions where it may be: a number whose bits they are. What may follow a set is kept,
for the sets of similar texts are the same ones. One character costs a step of a few additions for
each position, whatever the expression, and mostly one look into a dictionary.

=====================  ==========================================================================
``a``, ``\.``          the character; ``\n``, ``\t``, ``\r``, ``\f``, ``\v``, ``\a``
``.``                  any character but a newline
``[a-z_]  [^0-9]``     one of these, or none of these
``\d \w \s``           a digit, a word's character, white space, in ASCII; ``\D \W \S``: no such
``x*  x+  x?``         any number, one at least, one at most; with another ``?`` the same
``x{3} x{3,} x{3,5}``  so many
``xy  x|y``            one behind the other; one of the two
``(x)  (?:x)``         a group
``^x$``                the same as ``x``, for the whole text has to match anyway
=====================  ==========================================================================

All else of RE2's syntax is refused: flags, ``\b``, ``\pL``, ``\x41``, ``\Q…\E``, ``[[:alpha:]]``,
and ``^`` or ``$`` within an expression.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, Union

MOST_POSITIONS = 500
"""The characters that an expression consumes at most, those of its repetitions counted each."""

_MOST_DEPTH = 50
"""Groups in groups at most."""

_MOST_KEPT = 4096
"""Sets of positions, and masks of characters, that are kept for one expression."""

_Ranges = tuple[tuple[int, int], ...]
"""Code points, as first and last ones, in order."""


class PatternError(ValueError):
    """An expression that is malformed, not supported, or beyond a limit.

    Args:
        position: The index of the character at which it is.
        problem: What is wrong there.
    """

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position


def escaped(text: str) -> str:
    """Returns the expression that matches a text alone."""
    return _SPECIAL.sub(r"\\\g<0>", text)


_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


# The tree of an expression. Its size is the number of its positions.


@dataclass(frozen=True, slots=True, eq=False)
class _Character:
    """One character out of several; it is itself alone, however often it is repeated."""

    ranges: _Ranges
    size: int = 1


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Parts one behind the other; of none, the empty text."""

    parts: tuple[_Node, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of the parts."""

    parts: tuple[_Node, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Repeat:
    """A part so many times."""

    part: _Node
    least: int
    most: int | None
    """None for any number."""
    size: int


_Node = Union[_Character, _Sequence, _Choice, _Repeat]  # noqa: UP007 - is evaluated

_EMPTY = _Sequence((), 0)
"""The empty text. No other part has no position, so that positions bound the parts, too."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the positions: those at which it may begin and end, and whether it may be empty."""

    first: int
    last: int
    is_empty: bool


_NOTHING = _Span(0, 0, is_empty=True)


class Pattern:
    """A regular expression, ready to match; see the module.

    Args:
        text: The expression.

    Raises:
        PatternError: If it is none, or not one of the subset.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parser = _Parser(text)
        tree = parser.tree()
        anchors = parser.anchors
        self.unanchored = "".join(one for at, one in enumerate(text) if at not in anchors)
        """The same expression without ``^`` and ``$``, as a group can hold it."""
        self.prefix, rest = _split(tree)
        """The text with which all texts begin that match."""
        self._count = 0
        self._positions: dict[_Character, int] = {}
        self._links: dict[int, int] = {}
        self._whole = self._span(rest)
        self._masks: dict[str, int] = {}
        self._after: dict[int, int] = {}

    def __eq__(self, other: object) -> bool:
        """Whether it is the same expression."""
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        """Returns a hash of the expression."""
        return hash(self.text)

    def __repr__(self) -> str:
        """Shows the expression."""
        return f"Pattern({self.text!r})"

    @property
    def size(self) -> int:
        """The number of positions, and one more for what all texts begin with."""
        return self._count + 1

    def matches(self, text: str) -> bool:
        """Returns whether the expression matches a text, all of it."""
        if not text.startswith(self.prefix):
            return False
        here, ahead = 0, self._whole.first
        for character in text[len(self.prefix) :]:
            here = ahead & self._mask(character)
            if not here:
                return False
            ahead = self._behind(here)
        return bool(here & self._whole.last) if here else self._whole.is_empty

    def _mask(self, character: str) -> int:
        """Returns the positions that consume a character."""
        mask = self._masks.get(character)
        if mask is None:
            code = ord(character)
            mask = sum(
                positions
                for one, positions in self._positions.items()
                if any(first <= code <= last for first, last in one.ranges)
            )
            _keep(self._masks, character, mask)
        return mask

    def _behind(self, here: int) -> int:
        """Returns the positions that may follow one of these."""
        ahead = self._after.get(here)
        if ahead is None:
            ahead = 0
            for lasts, firsts in self._links.items():
                if here & lasts:
                    ahead |= firsts
            _keep(self._after, here, ahead)
        return ahead

    def _span(self, node: _Node) -> _Span:
        """Makes the positions of a part."""
        if isinstance(node, _Character):
            bit = 1 << self._count
            self._count += 1
            self._positions[node] = self._positions.get(node, 0) | bit
            return _Span(bit, bit, is_empty=False)
        if isinstance(node, _Choice):
            spans = [self._span(part) for part in node.parts]
            return _Span(
                functools.reduce(int.__or__, (span.first for span in spans)),
                functools.reduce(int.__or__, (span.last for span in spans)),
                any(span.is_empty for span in spans),
            )
        span = _NOTHING
        if isinstance(node, _Sequence):
            for part in node.parts:
                span = self._joined(span, self._span(part))
        else:
            for number in range(node.most or max(node.least, 1)):
                one = self._span(node.part)
                if node.most is None and number >= node.least - 1:
                    self._link(one.last, one.first)
                if number >= node.least:
                    one = _Span(one.first, one.last, is_empty=True)
                span = self._joined(span, one)
        return span

    def _joined(self, one: _Span, other: _Span) -> _Span:
        """Puts one part behind another."""
        self._link(one.last, other.first)
        return _Span(
            one.first | (other.first if one.is_empty else 0),
            other.last | (one.last if other.is_empty else 0),
            one.is_empty and other.is_empty,
        )

    def _link(self, lasts: int, firsts: int) -> None:
        """Lets each of some positions be followed by each of others."""
        if lasts and firsts:
            self._links[lasts] = self._links.get(lasts, 0) | firsts


_Key = TypeVar("_Key", str, int)


def _keep(kept: dict[_Key, int], key: _Key, value: int) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = value


def _split(tree: _Node) -> tuple[str, _Node]:
    """Returns the plain text that an expression begins with, and the rest of it."""
    parts = tree.parts if isinstance(tree, _Sequence) else (tree,)
    prefix = ""
    for part in parts:
        if not (isinstance(part, _Character) and len(part.ranges) == 1):
            break
        first, last = part.ranges[0]
        if first != last:
            break
        prefix += chr(first)
    rest = parts[len(prefix) :]
    return prefix, _Sequence(rest, sum(part.size for part in rest))


_LAST = sys.maxunicode
_DIGIT: _Ranges = ((48, 57),)
_SPACE: _Ranges = ((9, 10), (12, 13), (32, 32))
_WORD: _Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_CONTROL = {"a": 7, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_COUNT = re.compile(r"\{(?P<least>[0-9]{1,9})(?P<comma>,(?P<most>[0-9]{1,9})?)?\}")
_GROUP = re.compile(r"\((?:\?:|\?P?<[A-Za-z_][A-Za-z0-9_]*>)?(?!\?)")


def _others(ranges: Sequence[tuple[int, int]]) -> _Ranges:
    """Returns all code points but these."""
    found, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, _LAST)) if begin <= _LAST else tuple(found)


_CLASSES: dict[str, _Ranges] = {
    "d": _DIGIT,
    "s": _SPACE,
    "w": _WORD,
    "D": _others(_DIGIT),
    "S": _others(_SPACE),
    "W": _others(_WORD),
}


class _Parser:
    """Goes through an expression once; each method takes one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.anchors: set[int] = set()
        """The places of each ``^`` and ``$`` that was taken."""
        self._text = text
        self._place = 0
        self._depth = 0

    def tree(self) -> _Node:
        """Takes all of it."""
        tree = self._choice()
        if self._place < len(self._text):
            raise self._error("this ) closes no group")
        return tree

    def _next(self) -> str:
        """Returns the next character; empty at the end."""
        return self._text[self._place : self._place + 1]

    def _choice(self) -> _Node:
        """``sequence {| sequence}``."""
        parts = [self._sequence()]
        while self._next() == "|":
            self._place += 1
            part = self._sequence()
            if part.size or _EMPTY not in parts:
                parts.append(part)
        size = self._checked(sum(part.size for part in parts))
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts), size)

    def _sequence(self) -> _Node:
        """``{repeat}``; at the top between ``^`` and ``$``, which say nothing new."""
        if self._next() == "^" and not self._depth:
            self._take_anchor()
        parts: list[_Node] = []
        while self._next() not in ("", "|", ")"):
            if self._next() == "$" and self._is_last():
                self._take_anchor()
                break
            part = self._repeat()
            parts += part.parts if isinstance(part, _Sequence) else (part,)
        size = self._checked(sum(part.size for part in parts))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts), size)

    def _take_anchor(self) -> None:
        self.anchors.add(self._place)
        self._place += 1

    def _is_last(self) -> bool:
        """Whether the next character is the last one of a choice at the top."""
        behind = self._text[self._place + 1 : self._place + 2]
        return not self._depth and behind in ("", "|")

    def _repeat(self) -> _Node:
        """``atom [quantifier [?]]``."""
        part = self._atom()
        counts = self._counts()
        if counts is None:
            return part
        least, most = counts
        if self._next() == "?":
            self._place += 1  # how much it would take first makes no difference to a whole text
        at = self._place
        if self._counts() is not None:
            self._place = at
            raise self._error("this repeats what is repeated already; put that in parentheses")
        if most is not None and most < least:
            raise self._error(f"it is to be repeated {least} times at least, and {most} at most")
        size = self._checked(part.size * max(least, most or 1, 1))
        if not part.size or most == 0:
            return _EMPTY
        return _Repeat(part, least, most, size)

    def _counts(self) -> tuple[int, int | None] | None:
        """Takes a quantifier; None if there is none."""
        counts = _QUANTIFIERS.get(self._next())
        if counts is not None:
            self._place += 1
            return counts
        found = _COUNT.match(self._text, self._place)
        if found is None:
            return None
        self._place = found.end()
        least = int(found["least"])
        if found["most"] is not None:
            return least, int(found["most"])
        return least, (None if found["comma"] else least)

    def _atom(self) -> _Node:
        """One character, or a group."""
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _Character(self._class())
        if character in "*+?" or _COUNT.match(self._text, self._place):
            raise self._error("there is nothing to repeat before this; put a \\ before it")
        if character in "^$":
            raise self._error(f"{character} stands at either end only; put a \\ before it")
        if character == "\\":
            return _Character(self._escape())
        self._place += 1
        if character == ".":
            return _Character(_others(((10, 10),)))
        return _Character(((ord(character), ord(character)),))

    def _group(self) -> _Node:
        """``( choice )``."""
        begin = _GROUP.match(self._text, self._place)
        if begin is None:
            raise self._error("of groups with (? only (?:x) and (?P<name>x) are supported")
        at = self._place
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise self._error(f"groups are more than {_MOST_DEPTH} deep")
        self._place = begin.end()
        inside = self._choice()
        if self._next() != ")":
            self._place = at
            raise self._error("the group that begins here has no end")
        self._place += 1
        self._depth -= 1
        return inside

    def _class(self) -> _Ranges:
        """``[ [^] {character | range} ]``; a ``]`` that comes first is a character."""
        at = self._place
        self._place += 1
        is_negated = self._next() == "^"
        self._place += is_negated
        ranges: list[tuple[int, int]] = []
        while not ranges or self._next() != "]":
            if not self._next():
                self._place = at
                raise self._error("the [ that begins here has no end")
            first = self._member()
            if self._next() == "-" and self._text[self._place + 1 : self._place + 2] not in "]":
                begin = self._place
                self._place += 1
                last = self._member()
                if not (_is_one(first) and _is_one(last) and first[0][0] <= last[0][0]):
                    self._place = begin
                    raise self._error("this is no range of characters")
                first = ((first[0][0], last[0][0]),)
            ranges += first
        self._place += 1
        return _others(ranges) if is_negated else tuple(ranges)

    def _member(self) -> _Ranges:
        """One character within brackets, or a class of them."""
        if self._next() == "\\":
            return self._escape()
        if self._text.startswith("[:", self._place):
            raise self._error("classes such as [:alpha:] are not supported; list the characters")
        if not self._next():
            raise self._error("expected a character")
        self._place += 1
        code = ord(self._text[self._place - 1])
        return ((code, code),)

    def _escape(self) -> _Ranges:
        r"""``\`` and what follows it."""
        escaped_one = self._text[self._place + 1 : self._place + 2]
        ranges = _CLASSES.get(escaped_one)
        if ranges is None:
            code = _CONTROL.get(escaped_one, ord(escaped_one or "\0"))
            if not escaped_one or (
                escaped_one not in _CONTROL and (escaped_one.isalnum() or not escaped_one.isascii())
            ):
                raise self._error(f"\\{escaped_one} is not supported")
            ranges = ((code, code),)
        self._place += 2
        return ranges

    def _checked(self, size: int) -> int:
        if size > MOST_POSITIONS:
            raise self._error(f"it stands for more than {MOST_POSITIONS} characters up to here")
        return size

    def _error(self, problem: str) -> PatternError:
        return PatternError(self._place, problem)


def _is_one(ranges: _Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]

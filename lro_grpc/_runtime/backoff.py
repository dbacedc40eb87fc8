"""Schedules of pauses: between polls, and between the attempts of a call."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta

from lro_grpc._durations import Duration, as_timedelta
from lro_grpc._errors import Code

_RULE = "a Backoff needs 0 < initial <= maximum, and a finite multiplier >= 1"


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """An exponential schedule, with full jitter: each pause is uniform between zero and a ceiling.

    Attributes:
        initial: The ceiling of the first pause.
        multiplier: The factor between a ceiling and the next one.
        maximum: The highest ceiling.
        jitter: Whether pauses are random; each is its ceiling otherwise.

    Raises:
        ValueError: If the first ceiling is not above zero, the multiplier below one, or the
            maximum below the first ceiling; or if one of them is no number, NaN or infinite.
    """

    initial: Duration = timedelta(milliseconds=100)
    multiplier: float = 1.2
    maximum: Duration = timedelta(seconds=5)
    jitter: bool = True

    def __post_init__(self) -> None:
        try:
            initial = as_timedelta("initial", self.initial)
            maximum = as_timedelta("maximum", self.maximum)
        except (TypeError, ValueError) as wrong:
            raise ValueError(f"{wrong}; {_RULE}") from wrong
        multiplier = self.multiplier
        is_number = isinstance(multiplier, (int, float)) and not isinstance(multiplier, bool)
        if not is_number or not 1 <= multiplier < math.inf:  # which NaN is not
            raise ValueError(f"multiplier is {multiplier!r}; {_RULE}")
        if self.jitter not in (True, False):
            raise ValueError(f"jitter is {self.jitter!r}; give True or False")
        if not timedelta(0) < initial <= maximum:
            raise ValueError(f"initial is {initial}, and maximum {maximum}; {_RULE}")
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "maximum", maximum)

    def pauses(self, random: Callable[[], float]) -> Iterator[float]:
        """Returns the endless pauses, in seconds.

        Args:
            random: Gives numbers uniform in [0, 1), as ``random.random`` does.
        """
        ceiling = as_timedelta("initial", self.initial).total_seconds()
        maximum = as_timedelta("maximum", self.maximum).total_seconds()
        while True:
            yield ceiling * random() if self.jitter else ceiling
            ceiling = min(ceiling * self.multiplier, maximum)


DEFAULT_BACKOFF = Backoff()
"""From 0.1 s by 1.2 up to 5 s: between polls, and after UNAVAILABLE. Where nothing but polling is
left, twenty polls in the first 10 s see an end about a tenth of the operation's time late; from
then on there is one each 2.5 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """The policy by which a call that failed is made again (C2, C3).

    A single call is made again after a pause, and so many times at most. A wait outlives the same
    codes, as long as it lasts and with the client's own ``Backoff``, beside those that every wait
    outlives: UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED for a while, and RESOURCE_EXHAUSTED if the
    server says when to come again. Both keep to the delay that a server asks for (``RetryInfo``,
    ``grpc-retry-pushback-ms``, ``Retry-After``), up to a minute.

    Attributes:
        codes: The codes that are worth another attempt.
        backoff: The pauses between the attempts of a single call.
        attempts: Attempts of a single call at most, the first one included.

    Raises:
        TypeError: If ``codes`` are no codes, or ``backoff`` is no Backoff.
        ValueError: If there is to be less than one attempt, or OK is among the codes.
    """

    codes: Collection[Code] = frozenset({Code.UNAVAILABLE})
    backoff: Backoff = Backoff(timedelta(seconds=0.5), 2, timedelta(seconds=10))
    attempts: int = 5

    def __post_init__(self) -> None:
        codes = self.codes
        if not isinstance(codes, Collection) or not all(isinstance(one, Code) for one in codes):
            raise TypeError(f"codes is {codes!r}; give a set of lro_grpc.Code")
        if Code.OK in codes:
            raise ValueError("codes has OK, with which no call fails; give the codes of errors")
        object.__setattr__(self, "codes", frozenset(codes))
        if not isinstance(self.backoff, Backoff):
            raise TypeError(f"backoff is {self.backoff!r}; give a Backoff")
        attempts = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(
                f"attempts is {attempts!r}; give at least one attempt, or retry=None for just one"
            )


DEFAULT_RETRY = Retry()
"""The policy of Google's clients for Get, List, Cancel and Delete (P13)."""


def check_policy(retry: object, backoff: object = DEFAULT_BACKOFF) -> None:
    """Checks what a client was given for its policies.

    Raises:
        TypeError: If they are none.
    """
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry is {retry!r}; give a Retry, or None for none")
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff is {backoff!r}; give a Backoff")

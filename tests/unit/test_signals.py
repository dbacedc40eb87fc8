"""The signals that begin a drain, and what becomes of their handlers after it."""

from __future__ import annotations

import signal

import pytest

from lro_grpc._server.signals import on_signals


def test_former_handlers_are_put_back() -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(-number))
    try:
        with on_signals(heard.append, numbers={signal.SIGUSR1}):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert heard == [signal.SIGUSR1, -signal.SIGUSR1]


def test_a_handler_that_was_not_set_by_python_is_replaced_by_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a program that embeds Python: there is nothing that could be put back."""
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda _: None)
        with on_signals(print, numbers={signal.SIGUSR1}):
            pass
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

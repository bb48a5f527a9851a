"""The tests' own gate before their live server."""

import threading

import pytest

from tests import live


def test_closing_waits_for_the_requests_inside_and_turns_away_the_next() -> None:
    gate = live.Gate()
    gate.open()
    assert gate.enter()
    closing = threading.Thread(target=gate.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    assert not gate.enter()
    gate.leave()
    closing.join(5)
    assert not closing.is_alive()


def test_requests_that_never_end_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE_S", 0.01)
    gate = live.Gate()
    gate.open()
    gate.enter()
    with pytest.raises(TimeoutError, match="1 requests"):
        gate.close()

"""A live server that is quiet between tests: a browser's last words reach no database that is being emptied."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from django.core.handlers.wsgi import WSGIHandler

PATIENCE_S: Final = 30.0


class Gate:
    """Lets requests through while it is open, and knows how many are on their way.

    A page that is closed or killed may still send a release or a draft. Answered while the test's rows are
    being deleted, such a request and the deletion would wait for each other's locks.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_open = False

    def open(self) -> None:
        with self._changed:
            self._is_open = True

    def close(self) -> None:
        """Turns new requests away and waits for those inside. Raises `TimeoutError` when they do not end."""
        with self._changed:
            self._is_open = False
            if not self._changed.wait_for(lambda: self._inside == 0, PATIENCE_S):
                raise TimeoutError(
                    f"{self._inside} requests have not been answered {PATIENCE_S:.0f} s after the test"
                )

    def enter(self) -> bool:
        with self._changed:
            self._inside += self._is_open
            return self._is_open

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()


Answer = Callable[[WSGIHandler, dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def guarded(answer: Answer, gate: Gate) -> Answer:
    """The WSGI application behind the gate; a request counts until its answer was sent and closed."""

    def behind_the_gate(
        handler: WSGIHandler, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if not gate.enter():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        try:
            response: Any = answer(handler, environ, start_response)
        except BaseException:
            gate.leave()
            raise
        close = response.close

        def leave_when_closed() -> None:
            try:
                close()
            finally:
                gate.leave()

        response.close = leave_when_closed
        return response  # type: ignore[no-any-return]

    return behind_the_gate

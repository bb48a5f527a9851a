"""A load on an HTTP service from one process: many people, little CPU of our own."""

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

TIMEOUT_S: Final = 120.0
RETRIES: Final = 3


class Connection:
    """One person's kept-alive connection: requests with a token, answers as (status, JSON).

    Hand-made because the load shares two cores with what it measures: http.client takes about five times the CPU.
    """

    def __init__(self, host: str, port: int, token: str, *, root: str = "/api/v1/") -> None:
        self._address = (host, port)
        self._root = root
        self._head = (
            f"Host: {host}:{port}\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n"
        )
        self._socket: socket.socket | None = None
        self._rest = b""

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Sends again when the server closed the connection before it answered: only what may be sent twice."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = f"{method} {self._root}{path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
        for attempt in range(RETRIES):
            try:
                status, answer = self._exchange(head.encode() + data)
            except (ConnectionError, BrokenPipeError):
                self.close()
                if attempt == RETRIES - 1:
                    raise
                continue
            return status, json.loads(answer) if answer[:1] in (b"{", b"[") else None
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def _exchange(self, message: bytes) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(message)
        held = self._rest
        while (end := held.find(b"\r\n\r\n")) < 0:
            held += self._receive()
        head = held[:end].lower()
        at = head.find(b"content-length:")
        length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
        held = held[end + 4 :]
        while len(held) < length:
            held += self._receive()
        self._rest = held[length:]
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), held[:length]

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data


@dataclass
class Times:
    """Milliseconds of one kind of call."""

    ms: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.ms)
        return (
            round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else float("nan")
        )

    def summary(self) -> dict[str, float]:
        return {"calls": len(self.ms), **{f"p{q}_ms": self.quantile(q / 100) for q in (50, 95, 99)}}


def timed(times: Times, call: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
    began = time.perf_counter()
    answer = call()
    times.ms.append((time.perf_counter() - began) * 1000)
    return answer


def at_once(work: Callable[[int], None], people: Sequence[int]) -> float:
    """Runs `work(person)` for all of them at the same moment; seconds until the last has finished.

    Raises what the first of them raised.
    """
    barrier = threading.Barrier(len(people) + 1)

    def run(person: int) -> None:
        barrier.wait()
        work(person)

    with ThreadPoolExecutor(len(people)) as pool:
        running = [pool.submit(run, person) for person in people]
        barrier.wait()
        began = time.perf_counter()
        wait(running)
        took = time.perf_counter() - began
    for done in running:
        done.result()
    return took

"""A real S3 server for tests, and one that misbehaves."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVER = Path(__file__).parents[2].parent / "shared" / "services" / "ceph-rgw"
CACHE = Path.home() / ".cache" / "labelwheel-tests" / "ceph"
ACCESS_KEY, SECRET_KEY = "testaccess", "testsecret12"


class NoServer(Exception):
    """There is no S3 server to test with here; the message says why."""


@contextmanager
def real_server(state: Path) -> Iterator[str]:
    """A Ceph gateway on a free port: its host:port. Raises `NoServer`."""
    if not SERVER.is_file():
        raise NoServer(f"{SERVER} is not there")
    if not (CACHE / "usr" / "bin" / "radosgw").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _run("fetch", CACHE, timeout_s=300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] % 20_000 + 10_000  # it takes the 80 ports above, too
    try:
        _run("up", CACHE, state, str(port), timeout_s=120)
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([SERVER, "down", CACHE, state], timeout=60, check=False, capture_output=True)


def _run(*arguments: str | Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            [SERVER, *arguments], timeout=timeout_s, capture_output=True, text=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoServer(f"ceph-rgw {arguments[0]}: {error}") from error
    if done.returncode:
        raise NoServer(f"ceph-rgw {arguments[0]}: {done.stderr[-300:]}")


@contextmanager
def server_that(misbehaves: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A little HTTP server that treats every request so: its host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            misbehaves(self)

        do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 (the base class's names)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

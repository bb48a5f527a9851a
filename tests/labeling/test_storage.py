"""The store: the same behaviour in a directory and on a real S3 server, and bounded trouble with a bad one."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import LazySettings

from labeling import storage
from labeling.storage import BlobStore, CorruptBlob, DirectoryStore, MissingBlob, S3Store, StoreUnavailable
from tests.labeling.s3 import ACCESS_KEY, SECRET_KEY, NoServer, real_server, server_that


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with real_server(tmp_path_factory.mktemp("ceph")) as endpoint:
            yield endpoint
    except NoServer as error:
        pytest.skip(f"no S3 server: {error}")


def s3_store(endpoint: str, *, secret_key: str = SECRET_KEY, read_timeout_s: float = 20.0) -> S3Store:
    return S3Store(
        endpoint=endpoint,
        access_key=ACCESS_KEY,
        secret_key=secret_key,
        bucket="test-bucket",
        secure=False,
        read_timeout_s=read_timeout_s,
    )


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "objects")
    s3 = s3_store(request.getfixturevalue("s3_endpoint"))
    s3.ensure_bucket()
    for name in list(s3.names("")):
        s3.remove(name)
    return s3


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 20_000], ids=["nothing", "a byte", "5 MB"])
def test_what_was_put_comes_back(store: BlobStore, data: bytes) -> None:
    store.put("a/b/c", data)

    assert store.get("a/b/c") == data
    assert store.exists("a/b/c")


def test_what_is_missing_is_missing(store: BlobStore) -> None:
    with pytest.raises(MissingBlob):
        store.get("nothing/here")
    assert store.exists("nothing/here") is False
    store.remove("nothing/here")


def test_a_name_s_bytes_never_change(store: BlobStore) -> None:
    store.put("name", b"first")
    store.put("name", b"second")

    assert store.get("name") == b"first"


def test_a_removed_object_is_gone(store: BlobStore) -> None:
    store.put("a/b", b"x")
    store.remove("a/b")

    assert not store.exists("a/b")
    assert list(store.names("")) == []


def test_names_are_listed_by_their_beginning(store: BlobStore) -> None:
    names = ["blobs/aa/1", "blobs/ab/2", "tiers/512/aa/1.jpg"]
    for name in names:
        store.put(name, b"x")

    assert sorted(store.names("")) == names
    assert sorted(store.names("blobs/")) == names[:2]
    assert sorted(store.names("blobs/a")) == names[:2]
    assert sorted(store.names("blobs/ab/")) == names[1:2]
    assert list(store.names("none")) == []


def test_a_name_that_is_only_a_folder_is_no_object(store: BlobStore) -> None:
    store.put("a/b", b"x")

    assert store.exists("a") is False
    with pytest.raises(MissingBlob):
        store.get("a")


def test_a_blob_is_named_by_its_bytes_and_verified(store: BlobStore) -> None:
    sha256 = storage.put_blob(store, b"picture")

    assert storage.get_blob(store, sha256) == b"picture"
    assert list(store.names("")) == [storage.blob_name(sha256)]


def test_other_bytes_than_were_stored_are_noticed(store: BlobStore) -> None:
    sha256 = storage.sha256_of(b"picture")
    store.put(storage.blob_name(sha256), b"something else")

    with pytest.raises(CorruptBlob):
        storage.get_blob(store, sha256)


def test_many_writers_of_one_name_leave_one_whole_object(store: BlobStore) -> None:
    data = os.urandom(300_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.put("shared", data), range(8)))

    assert store.get("shared") == data
    assert list(store.names("")) == ["shared"]


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/passwd"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    inside = DirectoryStore(tmp_path / "objects")

    with pytest.raises(ValueError, match="is not a name in the store"):
        inside.put(name, b"x")
    with pytest.raises(ValueError, match="is not a name in the store"):
        inside.get(name)
    assert not (tmp_path / "outside").exists()


def test_a_disk_that_is_full_leaves_no_half_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = DirectoryStore(tmp_path / "objects")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            small.put("a/b", b"x" * 1000)

    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []
    small.put("a/b", b"y")
    assert small.get("a/b") == b"y"


def test_a_file_that_a_crash_left_half_written_is_no_object(tmp_path: Path) -> None:
    crashed = DirectoryStore(tmp_path)
    (tmp_path / ".writing-abc").write_bytes(b"half")

    assert list(crashed.names("")) == []


def test_the_settings_choose_the_store(settings: LazySettings, s3_endpoint: str) -> None:
    assert isinstance(storage.store(), DirectoryStore)
    storage.store.cache_clear()
    settings.S3_ENDPOINT, settings.S3_SECURE = s3_endpoint, False
    settings.S3_ACCESS_KEY, settings.S3_SECRET_KEY = ACCESS_KEY, SECRET_KEY
    settings.S3_BUCKET = f"made-{uuid4().hex}"

    made = storage.store()

    assert isinstance(made, S3Store)
    assert made.client.bucket_exists(bucket_name=settings.S3_BUCKET)


def test_a_bucket_that_is_there_already_is_no_trouble(s3_endpoint: str) -> None:
    for _ in range(2):
        s3_store(s3_endpoint).ensure_bucket()


def every_operation(store: S3Store) -> dict[str, object]:
    return {
        "ensure_bucket": store.ensure_bucket,
        "put": lambda: store.put("a", b"x"),
        "get": lambda: store.get("a"),
        "exists": lambda: store.exists("a"),
        "remove": lambda: store.remove("a"),
        "names": lambda: list(store.names("")),
    }


OPERATIONS = ["ensure_bucket", "put", "get", "exists", "remove", "names"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_secret_is_refused_by_name(s3_endpoint: str, operation: str) -> None:
    work = every_operation(s3_store(s3_endpoint, secret_key="wrongsecret12"))[operation]
    assert callable(work)

    with pytest.raises(StoreUnavailable):
        work()


def _refuse_in_words(request: BaseHTTPRequestHandler) -> None:
    body = b"<html>a proxy says no</html>"
    request.send_response(403)
    request.send_header("Content-Type", "text/html")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _fail(request: BaseHTTPRequestHandler) -> None:
    request.send_response(503)
    request.send_header("Retry-After", "3600")
    request.send_header("Content-Length", "0")
    request.end_headers()


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("trouble", [_refuse_in_words, _hang_up])
def test_a_server_in_trouble_is_a_store_that_is_unavailable(trouble: object, operation: str) -> None:
    assert callable(trouble)
    with server_that(trouble) as endpoint:
        work = every_operation(s3_store(endpoint))[operation]
        assert callable(work)
        started = time.monotonic()

        with pytest.raises(StoreUnavailable):
            work()

    assert time.monotonic() - started < 10


def test_a_server_that_asks_to_come_back_in_an_hour_is_given_up_in_seconds() -> None:
    with server_that(_fail) as endpoint:
        started = time.monotonic()

        with pytest.raises(StoreUnavailable):
            s3_store(endpoint).put("a", b"x")

    assert time.monotonic() - started < 10


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_hangs_is_given_up_in_bounded_time(operation: str) -> None:
    over = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        over.wait(30)

    with server_that(hang) as endpoint:
        work = every_operation(s3_store(endpoint, read_timeout_s=0.3))[operation]
        assert callable(work)
        started = time.monotonic()

        with pytest.raises(StoreUnavailable):
            work()

        assert time.monotonic() - started < 3
        over.set()


def test_nobody_at_the_address_is_a_store_that_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        s3_store("127.0.0.1:1").get("a")


def test_bytes_that_were_cut_off_on_the_way_are_not_taken() -> None:
    def cut_off(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"x" * 10)
        request.close_connection = True

    with server_that(cut_off) as endpoint, pytest.raises(StoreUnavailable):
        s3_store(endpoint).get("a")


def test_an_answer_that_is_no_xml_is_a_store_that_is_unavailable() -> None:
    def talk_nonsense(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", "3")
        request.end_headers()
        request.wfile.write(b"abc")

    with server_that(talk_nonsense) as endpoint, pytest.raises(StoreUnavailable):
        list(s3_store(endpoint).names(""))


def test_an_upload_that_arrived_short_is_noticed() -> None:
    region = b"<LocationConstraint xmlns='http://s3.amazonaws.com/doc/2006-03-01/'/>"

    def keep_little(request: BaseHTTPRequestHandler) -> None:
        if request.command == "PUT":
            put.append(request.path)
            request.rfile.read(int(request.headers["Content-Length"]))
        request.send_response(404 if request.command == "HEAD" and not put else 200)
        body = region if "location" in request.path else b"abc"
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", '"abc"')
        request.send_header("Last-Modified", "Mon, 02 Mar 2026 10:00:00 GMT")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    put: list[str] = []
    with server_that(keep_little) as endpoint, pytest.raises(CorruptBlob, match="of 1000 bytes"):
        s3_store(endpoint).put("a", b"x" * 1000)
    assert len(put) == 1


def test_a_file_that_nobody_read_is_closed_all_the_same(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a", b"bytes")
    chunks = store.chunks("a")

    storage.verified(chunks, storage.sha256_of(b"bytes")).close()

    with pytest.raises(ValueError, match="closed"):
        next(chunks)

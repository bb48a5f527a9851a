"""Where bytes live: immutable objects under names that say what they are.

Originals and snapshots are named by their sha256 (`blob_name`), the tiers of a picture by its sha256 and
size (`tier_name`). A name's bytes never change, so writing twice is the same as writing once.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from xml.etree.ElementTree import ParseError

import urllib3
from django.conf import settings
from minio import Minio
from minio.error import MinioException, S3Error

TROUBLE: Final = (MinioException, urllib3.exceptions.HTTPError, ParseError)
"""What the minio client raises when a server refuses, fails, hangs, or answers with no XML."""
CHUNK_BYTES: Final = 1 << 20


class MissingBlob(LookupError):
    """No object has this name."""


class CorruptBlob(ValueError):
    """The store gave other bytes than were stored under this name."""


class StoreUnavailable(RuntimeError):
    """The store did not answer in time, or refused; try again later."""


class BlobStore(Protocol):
    """Immutable bytes by name. All methods raise `StoreUnavailable` when the store does not answer."""

    def put(self, name: str, data: bytes) -> None:
        """Stores the whole object or nothing; a name that is there already is left as it is."""

    def put_file(self, name: str, path: Path) -> None:
        """Like `put`, with the bytes of a file, which nobody may change any more; never whole in memory."""

    def get(self, name: str) -> bytes:
        """The object's bytes. Raises `MissingBlob`."""

    def chunks(self, name: str) -> "Chunks":
        """The object's bytes, one after the other. Raises `MissingBlob` before the first."""

    def exists(self, name: str) -> bool: ...

    def remove(self, name: str) -> None:
        """Removes the object; nothing happens when it is not there."""

    def names(self, prefix: str) -> Iterator[str]: ...


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_name(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


def tier_name(sha256: str, tier: str) -> str:
    return f"tiers/{tier}/{sha256[:2]}/{sha256}.jpg"


def put_blob(blobs: BlobStore, data: bytes) -> str:
    """Stores bytes under their own sha256, which it returns."""
    digest = sha256_of(data)
    blobs.put(blob_name(digest), data)
    return digest


def get_blob(blobs: BlobStore, sha256: str) -> bytes:
    """The bytes with this sha256, verified. Raises `MissingBlob`, `CorruptBlob`."""
    return get_verified(blobs, blob_name(sha256), sha256)


def get_verified(blobs: BlobStore, name: str, sha256: str) -> bytes:
    """The object's bytes, if they have this sha256. Raises `MissingBlob`, `CorruptBlob`."""
    data = blobs.get(name)
    if sha256_of(data) != sha256:
        raise CorruptBlob(f"the store's bytes for {sha256} have another sha256")
    return data


class Chunks(Iterator[bytes]):
    """Bytes of something that is open; `close` lets go of it, also if nobody has asked for the first of them.

    A generator's own `close` does nothing before its first `next`: a request for the head alone would leave
    a file open.
    """

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._chunks = chunks
        self.close = close

    def __next__(self) -> bytes:
        return next(self._chunks)


def verified(chunks: Chunks, sha256: str) -> Chunks:
    """The chunks, the last of them only if all together have this sha256. Raises `CorruptBlob`."""
    return Chunks(_verified(chunks, sha256), chunks.close)


def _verified(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    held = b""
    for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sha256:
        raise CorruptBlob(f"the store's bytes for {sha256} have another sha256")
    yield held


class DirectoryStore:
    """Objects as files below a directory; written beside and renamed, so that a crash leaves no half file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        if path.exists():
            return
        try:
            with self._beside(path) as beside, beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(f"cannot write to the store: {error.strerror}") from error

    def put_file(self, name: str, path: Path) -> None:
        to = self._path(name)
        if to.exists():
            return
        try:
            with self._beside(to) as beside:
                self._copy(path, beside)
        except OSError as error:
            raise StoreUnavailable(f"cannot write to the store: {error.strerror}") from error

    def get(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise MissingBlob(name) from None
        except OSError as error:
            raise StoreUnavailable(f"cannot read from the store: {error.strerror}") from error

    def chunks(self, name: str) -> Chunks:
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise MissingBlob(name) from None
        except OSError as error:
            raise StoreUnavailable(f"cannot read from the store: {error.strerror}") from error
        return Chunks(_read_all(file), file.close)

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def names(self, prefix: str) -> Iterator[str]:
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if name.startswith(prefix) and path.is_file() and not path.name.startswith("."):
                yield name

    @contextmanager
    def _beside(self, path: Path) -> Iterator[Path]:
        """A file to write, which takes its name when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        os.close(descriptor)
        beside = Path(name)
        try:
            yield beside
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _copy(self, path: Path, to: Path) -> None:
        with path.open("rb") as source, to.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def _path(self, name: str) -> Path:
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"{name!r} is not a name in the store")
        return path


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()


def _read_all(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class S3Store:
    """Objects in a bucket of any S3 server, by the minio client with its own pool, timeouts and few retries."""

    def __init__(
        self,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool,
        read_timeout_s: float = 20.0,
    ) -> None:
        self.bucket = bucket
        self.client = Minio(
            endpoint=endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            http_client=urllib3.PoolManager(
                maxsize=16,
                timeout=urllib3.Timeout(connect=3, read=read_timeout_s),
                # A server that hangs is asked twice, and how long to wait is not the server's to say.
                retries=urllib3.Retry(
                    total=3,
                    read=1,
                    backoff_factor=0.2,
                    status_forcelist=(500, 502, 503, 504),
                    respect_retry_after_header=False,
                ),
            ),
        )

    def ensure_bucket(self) -> None:
        try:
            if not self.client.bucket_exists(bucket_name=self.bucket):
                self.client.make_bucket(bucket_name=self.bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise StoreUnavailable(f"{error.code}: {error.message}") from error
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error

    def put(self, name: str, data: bytes) -> None:
        if self.exists(name):
            return
        try:
            self.client.put_object(
                bucket_name=self.bucket, object_name=name, data=io.BytesIO(data), length=len(data)
            )
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        self._check_size(name, len(data))

    def put_file(self, name: str, path: Path) -> None:
        if self.exists(name):
            return
        try:
            self.client.fput_object(bucket_name=self.bucket, object_name=name, file_path=str(path))
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        self._check_size(name, path.stat().st_size)

    def get(self, name: str) -> bytes:
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Chunks:
        try:
            response = self.client.get_object(bucket_name=self.bucket, object_name=name)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                raise MissingBlob(name) from None
            raise StoreUnavailable(str(error)) from error
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        return Chunks(self._stream(response), partial(_give_back, response))

    def _stream(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from response.stream(CHUNK_BYTES)
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        finally:
            _give_back(response)

    def _check_size(self, name: str, size: int) -> None:
        try:
            stored = self.client.stat_object(bucket_name=self.bucket, object_name=name)
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        if stored.size != size:
            raise CorruptBlob(f"{name}: the store holds {stored.size} of {size} bytes")

    def exists(self, name: str) -> bool:
        try:
            self.client.stat_object(bucket_name=self.bucket, object_name=name)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                return False
            raise StoreUnavailable(str(error)) from error
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error
        return True

    def remove(self, name: str) -> None:
        try:
            self.client.remove_object(bucket_name=self.bucket, object_name=name)
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error

    def names(self, prefix: str) -> Iterator[str]:
        try:
            for item in self.client.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True):
                if item.object_name is not None:
                    yield item.object_name
        except TROUBLE as error:
            raise StoreUnavailable(str(error)) from error


@lru_cache(maxsize=1)
def store() -> BlobStore:
    """The store that the settings name."""
    if settings.S3_ENDPOINT:
        s3 = S3Store(
            endpoint=settings.S3_ENDPOINT,
            access_key=settings.S3_ACCESS_KEY,
            secret_key=settings.S3_SECRET_KEY,
            bucket=settings.S3_BUCKET,
            secure=settings.S3_SECURE,
        )
        s3.ensure_bucket()
        return s3
    return DirectoryStore(settings.STORE_DIRECTORY)

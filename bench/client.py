"""A small client of the HTTP API, for programs that play people."""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from uuid import uuid4

import httpx

from labeling.shapes import Shape, dump_list

Json: TypeAlias = dict[str, Any]
TRIES: Final = 5
PAGE: Final = 200


class Refusal(Exception):
    """The service refused; `code` is its word for why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code


class Client:
    """One person at the API. A call that must not be doubled is sent again only under its own key."""

    def __init__(self, address: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=f"{address}/api/v1/", headers={"Authorization": f"Token {token}"}, timeout=120.0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def projects(self) -> Iterator[Json]:
        return self._all("projects")

    def create_project(self, *, name: str, schema: Mapping[str, Any], **settings: Any) -> Json:
        return self._call("POST", "projects", json={"name": name, "schema": schema, **settings})

    def project(self, project_id: int) -> Json:
        return self._call("GET", f"projects/{project_id}")

    def change_project(self, project_id: int, **settings: Any) -> Json:
        return self._call("PATCH", f"projects/{project_id}", json=settings)

    def add_member(self, project_id: int, username: str, role: str) -> Json:
        return self._call("POST", f"projects/{project_id}/members", json={"username": username, "role": role})

    def upload(self, project_id: int, files: Sequence[tuple[str, bytes]], *, labels_as: str) -> Json:
        """Sends pictures, and label files among them, and waits for the import; gives back its report."""
        parts = [("files", (name, data)) for name, data in files]
        job = self._call("POST", f"projects/{project_id}/images", files=parts, data={"labels_as": labels_as})
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            job = self._call("GET", f"jobs/{job['id']}")
        if job["state"] != "done":
            raise Refusal(200, f"import_{job['state']}", job["error"])
        report: Json = job["report"]
        return report

    def next_tasks(self, project_id: int, count: int) -> Json:
        return self._call("POST", f"projects/{project_id}/queue/next", json={"count": count})

    def picture(self, task_id: int, tier: str) -> bytes:
        return self._send("GET", f"tasks/{task_id}/image/{tier}").content

    def submit(self, leased: Json, shapes: Sequence[Shape], *, schema_version: int, seconds: float) -> Json:
        """Answers a leased task. Its key makes it safe to send again when the connection broke."""
        body = {
            "key": str(uuid4()),
            "lease_token": leased["lease"]["token"],
            "base_revision": leased["base_revision"],
            "schema_version": schema_version,
            "shapes": dump_list(shapes),
            "seconds_active": round(seconds, 3),
            "suggestions_from": leased["suggestions_from"],
        }
        return self._call("POST", f"tasks/{leased['task']['id']}/annotations", json=body, again=True)

    def tasks(self, project_id: int, **wanted: str) -> Iterator[Json]:
        return self._all(f"projects/{project_id}/tasks", **wanted)

    def task(self, task_id: int) -> Json:
        return self._call("GET", f"tasks/{task_id}")

    def start_round(self, project_id: int) -> Json:
        return self._call("POST", f"projects/{project_id}/rounds/start")

    def round(self, project_id: int, number: int) -> Json:
        """The project's round of this number. Raises `LookupError`."""
        for item in self._all(f"projects/{project_id}/rounds"):
            if item["number"] == number:
                return item
        raise LookupError(f"project {project_id} has no round {number}")

    def models(self, project_id: int) -> Iterator[Json]:
        return self._all(f"projects/{project_id}/models")

    def _all(self, path: str, **wanted: str) -> Iterator[Json]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._call("GET", path, params={**wanted, "limit": PAGE, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]

    def _call(self, method: str, path: str, *, again: bool = False, **request: Any) -> Json:
        response = self._send(method, path, again=again, **request)
        body: Json = response.json()
        return body

    def _send(self, method: str, path: str, *, again: bool = False, **request: Any) -> httpx.Response:
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError:
                if last or not (again or method == "GET"):
                    raise
                time.sleep(0.2 * 2**attempt)
                continue
            if response.status_code in (429, 503) and not last:
                time.sleep(float(response.headers.get("Retry-After", 0.2 * 2**attempt)))
                continue
            break
        if response.is_success:
            return response
        try:
            error = response.json()
            raise Refusal(response.status_code, error["code"], error["message"])
        except (ValueError, KeyError, TypeError):
            raise Refusal(response.status_code, "no_api", response.text[:300]) from None

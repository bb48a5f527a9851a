"""Every refusal of the API has one shape, whatever refused."""

import json
import logging
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, OperationalError
from rest_framework.test import APIClient

from labeling.api import errors
from labeling.models import Role
from labeling.services import accounts, pictures, projects, queue
from labeling.storage import StoreUnavailable
from tests.conftest import BOXES_AND_POSES, House

pytestmark = pytest.mark.django_db

API = "/api/v1"


def assert_shape(response: Any, status: int, kind: str, code: str | None = None) -> dict[str, Any]:
    """The refusal, whose four parts are as they always are."""
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json")
    body: dict[str, Any] = json.loads(response.content)
    assert set(body) == {"type", "code", "message", "param"}
    assert body["type"] == kind
    assert body["code"] == (code or body["code"])
    assert body["code"] == body["code"].lower().replace(" ", "_")
    assert len(body["message"]) > 5
    assert body["param"] is None or isinstance(body["param"], str)
    return body


def test_whoever_is_not_logged_in_is_told_so(house: House) -> None:
    assert_shape(APIClient().get(f"{API}/me"), 401, "unauthenticated", "not_authenticated")


@pytest.mark.parametrize("header", ["Token", "Token nonsense", "Token lw_unknown", "Token \xff", "Token a b"])
def test_a_token_that_is_none_is_401(house: House, header: str) -> None:
    response = APIClient(HTTP_AUTHORIZATION=header).get(f"{API}/me")

    assert_shape(response, 401, "unauthenticated", "authentication_failed")


def test_a_form_of_another_site_is_refused(house: House) -> None:
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(house.people[Role.OWNER])

    body = assert_shape(browser.post(f"{API}/projects", {}), 403, "permission_denied")

    assert "CSRF" in body["message"]


def test_what_is_not_there_is_404(house: House) -> None:
    assert_shape(house.client(Role.OWNER).get(f"{API}/tasks/77"), 404, "not_found", "not_found")


@pytest.mark.parametrize("path", ["nothing", "projects/abc", "projects/-1", "tasks/1/2/3", "projects/1/"])
def test_a_path_that_is_none_is_404_in_the_same_shape(house: House, path: str) -> None:
    assert_shape(house.client(Role.OWNER).get(f"{API}/{path}"), 404, "not_found", "not_found")


def test_a_page_that_is_none_is_still_a_page(house: House) -> None:
    response = house.client(Role.OWNER).get("/nothing/")

    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_method_that_a_path_has_not_is_405(house: House) -> None:
    response = house.client(Role.OWNER).delete(f"{API}/projects")

    assert_shape(response, 405, "invalid_request", "method_not_allowed")


def test_a_body_in_another_language_is_415(house: House) -> None:
    response = house.client(Role.OWNER).post(f"{API}/projects", "<a/>", content_type="application/xml")

    assert_shape(response, 415, "invalid_request", "unsupported_media_type")


def test_an_answer_in_another_language_is_406(house: House) -> None:
    response = house.client(Role.OWNER).get(f"{API}/me", headers={"accept": "text/xml"})

    assert_shape(response, 406, "invalid_request", "not_acceptable")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "x" * 201, "schema": BOXES_AND_POSES}, "name"),
        ({"name": "x"}, "schema"),
        ({"name": "x", "schema": {"classes": []}}, "classes"),
        (
            {"name": "x", "schema": {"classes": [{"id": 1, "name": "a", "kind": "circle"}]}},
            "schema.classes[0].kind",
        ),
        (
            {"name": "x", "schema": {"classes": [{"id": 1, "name": "a", "kind": "keypoints"}]}},
            "classes[0].skeleton",
        ),
        ({"name": "x", "schema": BOXES_AND_POSES, "answers_per_task": 0}, "answers_per_task"),
        ({"name": "x", "schema": BOXES_AND_POSES, "answers_per_task": 2**70}, "answers_per_task"),
        ({"name": "x", "schema": BOXES_AND_POSES, "blind_share": 1.5}, "blind_share"),
    ],
)
def test_a_bad_field_is_named_by_its_path(house: House, body: dict[str, Any], param: str) -> None:
    response = house.client(Role.OWNER).post(f"{API}/projects", body)

    assert assert_shape(response, 400, "invalid_request", "invalid")["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "text", "param"),
    [
        ("POST", "projects", '{"name": "\\u0000", "schema": {}}', "name"),
        ("POST", "projects", '{"name": "\\ud800", "schema": {}}', "name"),
        ("PATCH", "projects/{}", '{"guide": "a\\u0000b"}', "guide"),
        ("PATCH", "projects/{}", '{"guide": "\\udfff"}', "guide"),
        ("PATCH", "projects/{}", '{"answers_per_task": "\\ud800"}', "answers_per_task"),
        ("PATCH", "projects/{}", '{"blind_share": 1e400}', "blind_share"),
        ("PATCH", "projects/{}", '{"blind_share": NaN}', None),
        ("PATCH", "projects/{}", '{"round_settings": {"training": "\\u0000"}}', "round_settings"),
        ("PATCH", "projects/{}", '{"round_settings": {"\\u0000": 1}}', "round_settings"),
        ("PATCH", "projects/{}", '{"round_settings": {"training": {"seed": 1e400}}}', "round_settings"),
        ("PATCH", "projects/{}", '{"round_settings": {"training": ["\\ud800"]}}', "round_settings"),
        ("PATCH", "projects/{}", '{"round_settings": {"a": %s}}' % ("[" * 400 + "]" * 400), "round_settings"),
        (
            "PATCH",
            "projects/{}",
            '{"round_settings": {"target_new_labels": "x"}}',
            "round_settings.target_new_labels",
        ),
        (
            "PATCH",
            "projects/{}",
            '{"round_settings": {"target_new_labels": true}}',
            "round_settings.target_new_labels",
        ),
        ("PATCH", "projects/{}", '{"round_settings": {"automatic": "no"}}', "round_settings.automatic"),
        ("PATCH", "projects/{}", '{"round_settings": {"strategy": []}}', "round_settings.strategy"),
        ("PATCH", "projects/{}", '{"round_settings": {"training": 7}}', "round_settings.training"),
        ("POST", "projects/{}/members", '{"username": "a\\u0000", "role": "viewer"}', "username"),
        ("POST", "projects/{}/members", '{"username": "\\ud800", "role": "viewer"}', "username"),
        ("POST", "projects/{}/members", '{"username": "the viewer", "role": "\\ud800"}', "role"),
        ("POST", "projects/{}/queue/next", '{"count": 1000}', "count"),
        ("POST", "projects/{}/queue/next", '{"count": "\\ud800"}', "count"),
        ("POST", "projects/{}/exports", '{"format": "\\ud800"}', "format"),
        ("POST", "projects/{}/exports", '{"format": {"a": 1}}', "format"),
        ("POST", "tokens", '{"name": "\\u0000"}', "name"),
        ("PUT", "projects/{}/schema", '{"base_version": 1, "schema": {"classes": [7]}}', None),
        ("PUT", "projects/{}/schema", "[]", None),
        ("PATCH", "projects/{}", "[]", None),
        ("POST", "projects/{}/members", '"text"', None),
        ("POST", "projects", "{", None),
        ("POST", "projects", "[" * 100_000, None),
    ],
)
def test_what_a_database_would_refuse_is_refused_before(
    house: House, method: str, path: str, text: str, param: str | None
) -> None:
    response = house.client(Role.OWNER).generic(
        method, f"{API}/{path.format(house.project.pk)}", text, content_type="application/json"
    )

    told = assert_shape(response, 400, "invalid_request")["param"]
    assert param is None or told == param


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=" + "9" * 5000, "limit=٣"])
@pytest.mark.parametrize("cursor", ["", "&cursor=x", "&cursor=" + "9" * 400, "&cursor=%00", "&cursor=1__gt"])
def test_a_bad_page_is_a_page(house: House, query: str, cursor: str) -> None:
    response = house.client(Role.OWNER).get(f"{API}/projects/{house.project.pk}/members?{query}{cursor}")

    assert response.status_code == 200
    assert set(response.json()) == {"items", "next"}


@pytest.mark.parametrize("query", ["state=lost", "state=%00", "state=%ED%A0%80", "state[]=settled&state=x"])
def test_a_state_that_is_none_is_refused(house: House, query: str) -> None:
    response = house.client(Role.OWNER).get(f"{API}/projects/{house.project.pk}/tasks?{query}")

    assert assert_shape(response, 400, "invalid_request")["param"] == "state"


@pytest.mark.parametrize("refusal", errors.REFUSALS)
def test_each_named_refusal_has_its_status_and_code(
    house: House, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
) -> None:
    status, code = errors.REFUSALS[refusal]

    def refuse(**arguments: object) -> None:
        raise refusal("because the test says so")

    monkeypatch.setattr(projects, "change", refuse)
    response = house.client(Role.OWNER).patch(f"{API}/projects/{house.project.pk}", {"guide": "x"})

    body = assert_shape(response, status, errors.TYPES[status], code)
    assert body["message"] == "because the test says so"


def test_a_store_that_does_not_answer_is_503(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: object) -> bytes:
        raise StoreUnavailable("the store did not answer")

    task = house.add_picture()
    monkeypatch.setattr(pictures, "tier_bytes", away)

    response = house.client(Role.ANNOTATOR).get(f"{API}/tasks/{task.pk}/image/512")

    assert_shape(response, 503, "unavailable", "store_unavailable")


@pytest.mark.parametrize("trouble", [ZeroDivisionError("a secret detail"), DatabaseError("a secret detail")])
def test_what_nobody_foresaw_is_500_in_the_same_shape_and_tells_no_detail(
    house: House, monkeypatch: pytest.MonkeyPatch, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**arguments: object) -> None:
        raise trouble

    monkeypatch.setattr(queue, "lease_next", broken)
    client = house.client(Role.ANNOTATOR)
    client.raise_request_exception = False
    with caplog.at_level(logging.ERROR):
        response = client.post(f"{API}/projects/{house.project.pk}/queue/next", {})

    body = assert_shape(response, 500, "server_error", "server_error")
    assert "secret" not in json.dumps(body)
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_database_that_does_not_answer_is_503(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(**arguments: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(queue, "lease_next", away)
    response = house.client(Role.ANNOTATOR).post(f"{API}/projects/{house.project.pk}/queue/next", {})

    assert_shape(response, 503, "unavailable", "database_unavailable")
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_an_upload_of_too_many_files_is_refused(house: House, settings: LazySettings) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    files = [SimpleUploadedFile(f"{number}.png", b"x") for number in range(3)]

    response = house.client(Role.OWNER).post(
        f"{API}/projects/{house.project.pk}/images", {"files": files}, format="multipart"
    )

    assert_shape(response, 400, "invalid_request")


def test_an_upload_that_breaks_off_is_refused(house: House) -> None:
    response = house.client(Role.OWNER).generic(
        "POST",
        f"{API}/projects/{house.project.pk}/images",
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc',
        content_type="multipart/form-data; boundary=x",
    )

    assert_shape(response, 400, "invalid_request")


def test_a_program_s_token_lets_it_in_until_its_owner_s_password_changes(house: House) -> None:
    owner = house.people[Role.OWNER]
    _, secret = accounts.make_token(user=owner, name="a program")
    program = APIClient(HTTP_AUTHORIZATION=f"Token {secret}")
    assert program.get(f"{API}/me").json()["username"] == "the owner"

    owner.set_password("another horse")
    owner.save()

    assert_shape(program.get(f"{API}/me"), 401, "unauthenticated", "authentication_failed")

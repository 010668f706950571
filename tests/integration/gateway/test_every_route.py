"""What holds for every route of every room."""

from __future__ import annotations

import re

import pytest

from shared.scopes import SCOPES

PUBLIC = {"/healthz", "/readyz", "/metrics"}
ERROR_KEYS = {"message", "type", "param", "code"}


def _operations(client) -> list[tuple[str, str]]:
    """Method and path, with a value for each parameter, of every described route."""
    paths = client.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), re.sub(r"\{[^}]+\}", "unknown", path))
        for path, operations in paths.items()
        for method in operations
        if path not in PUBLIC
    ]


def _assert_error(answer, status, code=None):
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == ERROR_KEYS
    assert answer.headers["x-request-id"].startswith("req_")
    if code:
        assert answer.json()["error"]["code"] == code


def test_no_route_but_the_public_ones_answers_without_a_key(client):
    operations = _operations(client)
    assert len(operations) >= 9
    for method, path in operations:
        for headers in ({}, {"authorization": "Bearer ppt_nobody_" + "x" * 43}):
            _assert_error(
                client.request(method, path, content=b"{not json", headers=headers),
                401,
                "invalid_api_key",
            )


def test_every_route_refuses_a_key_without_its_scope(client, app, make_key):
    """A key is made with all scopes but one; that one's routes must refuse it."""
    refused = set()
    for scope in sorted(SCOPES):
        headers = make_key(*(SCOPES - {scope}))
        for method, path in _operations(client):
            if (method, path) in refused:
                continue
            answer = client.request(method, path, headers=headers, json={})
            if answer.status_code == 403:
                _assert_error(answer, 403, "missing_scope")
                refused.add((method, path))
    assert refused == set(_operations(client))


def test_a_method_that_a_path_does_not_answer_is_a_405_in_our_shape(client, make_key):
    _assert_error(client.patch("/api/v1/keys", headers=make_key()), 405, "method_not_allowed")


def test_an_unknown_path_is_a_404_in_our_shape(client, make_key):
    _assert_error(client.get("/v1/nothing", headers=make_key()), 404, "unknown_url")
    _assert_error(client.get("/nothing"), 404, "unknown_url")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{not json", "invalid_body", None),
        (b"{}", "invalid_value", "name"),
        (b'{"name": "x", "scopes": ["files:read"], "color": 1}', "invalid_value", "color"),
        (b'{"name": "x", "scopes": ["no:such"]}', "unknown_scope", "scopes"),
        (b'{"name": "x", "scopes": []}', "no_scopes", "scopes"),
    ],
)
def test_a_body_that_does_not_fit_is_a_400_that_names_the_field(
    client, make_key, body, code, param
):
    answer = client.post(
        "/api/v1/keys",
        content=body,
        headers={**make_key(), "content-type": "application/json"},
    )
    _assert_error(answer, 400, code)
    assert answer.json()["error"]["param"] == param


def _chunks():
    for _ in range(10):
        yield b" " * 1024


@pytest.mark.parametrize("body", [b" " * 5000, _chunks], ids=["declared", "chunked"])
def test_a_body_over_the_limit_is_a_413_in_our_shape(client, make_key, body):
    content = body if isinstance(body, bytes) else body()
    answer = client.post(
        "/api/v1/keys",
        content=content,
        headers={**make_key(), "content-type": "application/json"},
    )
    _assert_error(answer, 413, "body_too_large")


def test_the_description_names_our_errors_and_no_422(client):
    description = client.get("/openapi.json").json()
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert ("security" in operation) == (path not in PUBLIC), path
    assert "Error" in description["components"]["schemas"]

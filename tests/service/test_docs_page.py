"""GET /docs: the whole API on one page, without a script and without another host."""

import json

import pytest

from kernel import NotFoundError
from service.docs_page import describe, problem_types
from service.pages import CONTENT_SECURITY_POLICY
from tests.support.portal import Page
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def answers(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        return await world.http.get("/docs"), (await world.http.get("/openapi.json")).json()


@pytest.fixture
def page(answers):
    return Page(answers[0])


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


async def test_the_page_lists_every_operation_of_the_document(answers, page):
    for method, path, operation in operations(answers[1]):
        assert f'<span class="tag">{method.upper()}</span> <code>{path}</code>' in page.html
        assert operation["summary"].replace("'", "&#39;") in page.html
        for parameter in operation.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in page.html


async def test_the_page_names_every_problem_type(page):
    assert len(problem_types()) > 20
    for problem in problem_types():
        assert f"<code>{problem.slug}</code>" in page.html
        assert str(problem.status) in page.text


async def test_the_page_needs_no_script_and_no_other_host(answers, page):
    assert answers[0].headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert not {"script", "style", "iframe", "img"} & set(page.tags)
    assert not [link for link in page.links if "//" in link]
    assert page.lang == "en"
    assert page.headings == ["API 0.1.0"]


async def test_every_link_of_the_page_has_its_place(page):
    assert len(page.ids) == len(set(page.ids))
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)


async def test_a_status_that_a_problem_type_has_can_be_jumped_to(page):
    statuses = {problem.status for problem in problem_types()}
    assert {f"problems-{status}" for status in statuses} <= set(page.ids)


async def test_the_examples_of_the_page_are_json(answers):
    seen = 0
    for group in describe(answers[1]):
        for operation in group.operations:
            bodies = [operation.body] if operation.body else []
            for example in [one.example for one in (*bodies, *operation.answers)]:
                if example and example[0] in "{[":  # others are forms, notes, lines and pages
                    json.loads(example)
                    seen += 1
    assert seen > 10


def test_a_schema_without_examples_is_shown_by_its_shape():
    document = {
        "paths": {
            "/x": {
                "post": {
                    "requestBody": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/X"}}
                        }
                    },
                    "responses": {"204": {"description": "Done"}},
                }
            }
        },
        "components": {
            "schemas": {
                "X": {
                    "required": ["one"],
                    "properties": {
                        "one": {"type": "string"},
                        "two": {"type": "array", "items": {"$ref": "#/components/schemas/Y"}},
                        "again": {"$ref": "#/components/schemas/X"},
                    },
                },
                "Y": {"enum": ["a", "b"]},
            }
        },
    }
    ((operation,),) = [group.operations for group in describe(document)]
    one, two, again = operation.body.fields
    assert (one.is_required, one.kind) == (True, "string")
    assert (two.is_required, two.kind) == (False, "array of a | b")
    assert again.kind == "any"
    example = json.loads(operation.body.example)
    assert (example["one"], example["two"]) == ("…", ["a"])
    assert [(answer.status, answer.text) for answer in operation.answers] == [("204", "Done")]


def test_shared_parameters_and_examples_beside_a_schema_are_read():
    document = {
        "paths": {
            "/x": {
                "get": {
                    "parameters": [{"$ref": "#/components/parameters/Page"}],
                    "responses": {
                        "200": {"$ref": "#/components/responses/Many"},
                        "404": {
                            "description": "Problem",
                            "content": {"application/problem+json": {"schema": {}}},
                        },
                    },
                }
            }
        },
        "components": {
            "parameters": {
                "Page": {
                    "name": "page",
                    "in": "query",
                    "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                }
            },
            "responses": {
                "Many": {
                    "description": "Fine",
                    "content": {
                        "application/json": {
                            "schema": {"type": "object"},
                            "examples": {"first": {"value": {"a": 1}}},
                        }
                    },
                }
            },
        },
    }
    ((operation,),) = [group.operations for group in describe(document)]
    assert [(one.name, one.kind) for one in operation.parameters] == [("page", "integer or null")]
    assert [json.loads(one.example) for one in operation.answers] == [{"a": 1}]
    assert operation.problems == ("404",)


def test_the_problem_types_of_pages_are_not_the_apis():
    slugs = {problem.slug for problem in problem_types()}
    assert NotFoundError.slug in slugs
    assert "form-refused" not in slugs

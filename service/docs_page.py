"""`GET /docs`: the API described on one page, drawn from the OpenAPI document on the server.

No script and no other host: what a developer reads here is what this very installation answers,
and it can be searched with the browser's own find, printed, or read aloud.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Response

from kernel import YinyomError
from kernel.errors import TYPE_BASE
from service.pages import Pages

Schema = Mapping[str, Any]
_DEEPEST = 6
_METHODS = ("get", "post", "put", "patch", "delete")
_JSON = "application/json"
_PAGES = "service.portal"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path, query or header parameter."""

    name: str
    place: str
    is_required: bool
    kind: str
    text: str
    example: str


@dataclass(frozen=True, slots=True)
class BodyField:
    """One field of a request body."""

    name: str
    is_required: bool
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: its media type, its fields and an example."""

    media_type: str
    fields: tuple[BodyField, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status an operation answers with; `example` is empty for problems."""

    status: str
    text: str
    media_type: str
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    anchor: str
    method: str
    path: str
    summary: str
    text: str
    needs_token: bool
    parameters: tuple[Parameter, ...]
    body: Body | None
    answers: tuple[Answer, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The operations under one tag."""

    tag: str
    anchor: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One `type` of problem details, as its error class states it."""

    slug: str
    uri: str
    status: int
    title: str
    next: str


def router(document: Callable[[], Schema]) -> APIRouter:
    """Make the route; the page is drawn once, when it is first asked for."""
    pages = Pages()
    routes = APIRouter(include_in_schema=False)
    drawn: list[Response] = []

    @routes.get("/docs")
    async def docs() -> Response:
        if not drawn:
            schema, types = document(), problem_types()
            drawn.append(
                pages.answer(
                    "docs.html",
                    lang="en",
                    info=schema["info"],
                    groups=describe(schema),
                    problem_types=types,
                    statuses={str(one.status) for one in types},
                )
            )
        return Response(drawn[0].body, 200, dict(drawn[0].headers))

    return routes


def describe(document: Schema) -> list[Group]:
    """Put an OpenAPI 3.1 document into words, grouped by tag in the order of first use."""
    reader = _Reader(document)
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                tag = next(iter(methods[method].get("tags", ())), "Service")
                groups.setdefault(tag, []).append(reader.operation(path, method, methods[method]))
    return [Group(tag, f"tag-{_slug(tag)}", tuple(found)) for tag, found in groups.items()]


def problem_types() -> list[ProblemType]:
    """List every problem type that the API may answer with, by status and name."""
    found = {
        error.slug: ProblemType(
            error.slug, f"{TYPE_BASE}/{error.slug}", error.status, error.title, error.remedy
        )
        for error in _errors(YinyomError)
    }
    return sorted(found.values(), key=lambda one: (one.status, one.slug))


def _errors(root: type[YinyomError]) -> Iterator[type[YinyomError]]:
    if not root.__module__.startswith(_PAGES):
        yield root
    for child in root.__subclasses__():
        yield from _errors(child)


class _Reader:
    """Reads operations and schemas of one document."""

    def __init__(self, document: Schema) -> None:
        self._components: Schema = document.get("components", {})

    def operation(self, path: str, method: str, found: Schema) -> Operation:
        answers = tuple(self._answers(found.get("responses", {})))
        return Operation(
            anchor=f"{method}-{_slug(path)}",
            method=method.upper(),
            path=path,
            summary=found.get("summary", ""),
            text=found.get("description", ""),
            needs_token=bool(found.get("security")),
            parameters=tuple(self._parameter(one) for one in found.get("parameters", ())),
            body=self._body(found.get("requestBody")),
            answers=tuple(one for one in answers if one.example or not _is_problem(one)),
            problems=tuple(one.status for one in answers if _is_problem(one)),
        )

    def _parameter(self, found: Schema) -> Parameter:
        found = self._resolved(found)
        schema = found.get("schema", {})
        return Parameter(
            found["name"],
            found["in"],
            bool(found.get("required")),
            self._kind(schema),
            found.get("description", schema.get("description", "")),
            str(found.get("example", next(iter(schema.get("examples", ())), ""))),
        )

    def _body(self, found: Schema | None) -> Body | None:
        if found is None:
            return None
        contents: Schema = self._resolved(found)["content"]
        media_type, content = next(iter(contents.items()))
        schema = self._resolved(content.get("schema", {}))
        required = schema.get("required", ())
        fields = tuple(
            BodyField(name, name in required, self._kind(one), one.get("description", ""))
            for name, one in schema.get("properties", {}).items()
        )
        example = self._content_example(content)
        text = _form(example) if "form" in media_type else _pretty(example)
        return Body(media_type, fields, text)

    def _answers(self, found: Schema) -> Iterator[Answer]:
        for status, one in found.items():
            answer = self._resolved(one)
            contents: Schema = answer.get("content", {})
            media_type = next(iter(contents), "")
            content: Schema = contents.get(media_type, {})
            example = ""
            if media_type == _JSON and content.get("schema"):
                example = _pretty(self._content_example(content))
            yield Answer(status, answer.get("description", ""), media_type, example)

    def _resolved(self, schema: Schema) -> Schema:
        reference = schema.get("$ref")
        if reference is None:
            return schema
        kind, name = reference.split("/")[-2:]
        found: Schema = self._components[kind][name]
        return found

    def _kind(self, schema: Schema) -> str:
        """Name a type as a reader would: `string`, `array of string`, `integer or null`."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(self._kind(one) for one in schema["anyOf"]))
        if "enum" in schema:
            return " | ".join(str(one) for one in schema["enum"])
        if "const" in schema:
            return str(schema["const"])
        kind = schema.get("type", "any")
        if kind == "array":
            return f"array of {self._kind(schema.get('items', {}))}"
        return str(kind)

    def _content_example(self, content: Schema) -> Any:
        """Give the example that stands beside a schema, else one made from it."""
        if "example" in content:
            return content["example"]
        for named in content.get("examples", {}).values():
            return self._resolved(named)["value"]
        return self._example(content.get("schema", {}))

    def _example(self, schema: Schema, depth: int = 0) -> Any:
        """Make an example: what the schema offers, else one of its shape."""
        offered = _offered(schema)
        if offered is None and "$ref" in schema:
            schema = self._resolved(schema)
            offered = _offered(schema)
        if offered is not None:
            return offered
        choices = schema.get("anyOf") or schema.get("oneOf")
        return self._example(choices[0], depth) if choices else self._shape(schema, depth)

    def _shape(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if depth >= _DEEPEST:
            return None
        if kind == "object" or "properties" in schema:
            return {
                name: self._example(one, depth + 1)
                for name, one in schema.get("properties", {}).items()
            }
        if kind == "array":
            items = schema.get("items")
            return [self._example(items, depth + 1)] if items else []
        return {"string": "…", "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))


def _offered(schema: Schema) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    return schema.get("const", schema.get("default"))


def _is_problem(answer: Answer) -> bool:
    return answer.media_type == "application/problem+json"


def _pretty(example: Any) -> str:
    return orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


def _form(example: Any) -> str:
    return "&".join(f"{name}={value}" for name, value in example.items() if value is not None)


def _slug(text: str) -> str:
    letters = (letter if letter.isalnum() else "-" for letter in text.lower())
    return "-".join(part for part in "".join(letters).split("-") if part)

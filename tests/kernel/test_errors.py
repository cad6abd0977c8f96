"""One family of errors: each with a slug, a status and words for people."""

import pytest

import kernel.errors
from kernel import FieldProblem, InvalidRequestError, NotFoundError, YinyomError
from kernel.errors import TYPE_BASE

FAMILY = [
    found
    for found in vars(kernel.errors).values()
    if isinstance(found, type) and issubclass(found, YinyomError)
]


def test_no_two_errors_share_a_slug():
    slugs = [kind.slug for kind in FAMILY]
    assert len(set(slugs)) == len(slugs) > 5


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_every_error_can_be_shown_to_a_client_a_page_and_an_operator(kind):
    error = kind()
    assert 400 <= error.status <= 599
    assert error.type_uri == f"{TYPE_BASE}/{error.slug}"
    assert error.i18n_key == f"error.{error.slug}"
    assert str(error) == error.title
    assert error.diagnostics() == f"{error.title}\nNext: {error.remedy}"


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_only_a_misused_request_exits_with_the_usage_code(kind):
    # 2 means usage and nothing else; 3 configuration, 4 not allowed.
    expected = {"invalid-request": 2, "configuration": 3, "not-allowed": 4, "not-authenticated": 4}
    assert kind().exit_code == expected.get(kind.slug, 1)


def test_diagnostics_name_what_where_and_what_next():
    error = InvalidRequestError(
        "two places do not fit",
        errors=[
            FieldProblem("/fields/phone", "phone_invalid"),
            FieldProblem("/fields/birth_date", "date_invalid", "not a day of this calendar"),
        ],
        remedy="Mend them.",
    )
    assert error.diagnostics().splitlines() == [
        "The request does not fit the schema: two places do not fit",
        "  /fields/phone: phone_invalid",
        "  /fields/birth_date: not a day of this calendar",
        "Next: Mend them.",
    ]


def test_a_remedy_given_once_does_not_stay_for_the_next_error():
    default = NotFoundError().remedy
    assert NotFoundError(remedy="Look elsewhere.").remedy == "Look elsewhere."
    assert NotFoundError().remedy == default

"""Staff and access review: who may sign in, as what, and when they last did."""

from fastapi import APIRouter, Request, Response

from service.console.desk import Console

_PLACE = "staff"


def routes(console: Console) -> APIRouter:
    """Make the routes of the access review."""
    people = APIRouter()

    @people.get("/staff")
    async def review(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        async with console.runtime.database.read() as session:
            found = await console.runtime.staff.accounts(session)
        accounts = [
            {
                "id": one.id,
                "name": one.name,
                "role": one.role,
                "brand": one.brand,
                "person": one.person,
                "is_active": one.is_active,
                "must_change": one.must_change,
                "signed_in": None if one.signed_in_us is None else desk.when(one.signed_in_us),
                "places": console.places_of(one),
            }
            for one in found
            if desk.sees(one.brand)
        ]
        return console.show(request, "staff", desk, current=_PLACE, accounts=accounts)

    return people

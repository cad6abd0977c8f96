"""Files over HTTP: taken in sealed, imported behind the answer, told of by number and code only."""

import asyncio
import io

import pytest

from tests.members.test_import_spreadsheet import workbook
from tests.support.world import open_world

pytestmark = pytest.mark.anyio
CSV = (
    "รหัสสมาชิก,ชื่อ,เบอร์โทรศัพท์,อีเมล,วันเกิด\n"
    "M1,คานารีเอ,0812345678,a@example.com,12/05/2530\n"
    "M2,คานารีบี,,nobody@,12/05/2530\n"
    "M1,คานารีเอ,0812345678,a@example.com,12/05/2530\n"
    "M3,คานารีซี,0812345679,c@example.com,31/02/2530\n"
)


async def send(app, content=CSV, headers=None, **words):
    content = content if isinstance(content, bytes) else content.encode()
    return await app.request(
        "POST",
        "/v1/imports",
        files={"file": ("members.csv", io.BytesIO(content), "text/csv")},
        data={"profile": "th", **words},
        headers=headers or {},
    )


async def until_done(app, import_id):
    for _ in range(4_000):
        answer = await app.get(f"/v1/imports/{import_id}")
        assert answer.status_code == 200, answer.text
        if answer.json()["state"] in {"finished", "failed"}:
            return answer.json()
        await asyncio.sleep(0.02)
    pytest.fail("the import never ended")


async def test_a_file_is_imported_behind_the_answer_and_every_row_accounted_for(world):
    app = await world.app("loader", "imports:write")
    taken = await send(app)
    assert taken.status_code == 202, taken.text
    assert taken.json()["rows"] == 4
    done = await until_done(app, taken.json()["id"])
    assert (done["state"], done["rows"], done["done"]) == ("finished", 4, 4)
    assert (done["accepted"], done["quarantined"], done["exact_repeats"]) == (2, 1, 1)
    assert done["issues"]["birth_date.invalid"] == 1
    rows = (await app.get(f"/v1/imports/{taken.json()['id']}/quarantine")).json()
    assert rows == {
        "rows": [
            {
                "row": 2,
                "issues": [
                    {"field": "email", "code": "invalid"},
                    {"field": "row", "code": "no_identifier"},
                ],
            }
        ],
        "cursor": None,
    }
    (event,) = await world.events("import.read")
    assert event["actor"]["id"] == "sys_registry"
    imported = await world.events("member.import")
    assert {event["actor"]["id"] for event in imported} == {app.id}


async def test_a_spreadsheet_is_imported_like_a_csv_file(world):
    app = await world.app("loader", "imports:write")
    sheet = workbook(["Member No", "First name", "Mobile"], ["M1", "สมหญิง", 812345678])
    taken = await send(app, sheet.getvalue())
    assert (await until_done(app, taken.json()["id"]))["accepted"] == 1


async def test_until_it_is_imported_a_file_lies_sealed_and_afterwards_not_at_all(settings):
    async with open_world(settings, background=False) as world:
        app = await world.app("loader", "imports:write")
        taken = await send(app)
        import_id = taken.json()["id"]
        (part,) = await world.fetch("SELECT * FROM import_part")
        (upload,) = await world.fetch("SELECT * FROM import_upload")
        stored = bytes(part["cell"]) + bytes(upload["declared"])
        for canary in ("คานารี", "0812345678", "example.com"):
            assert canary.encode() not in stored
        assert (await app.get(f"/v1/imports/{import_id}")).json()["state"] == "waiting"
        while await world.runtime.worker.run_one():
            pass
        assert await world.fetch("SELECT * FROM import_part") == []
        (upload,) = await world.fetch("SELECT * FROM import_upload")
        assert (upload["declared"], upload["failure"]) == (None, None)


async def test_the_same_file_sent_twice_is_one_import(world):
    app = await world.app("loader", "imports:write")
    one, other = await send(app), await send(app)
    assert one.json() == other.json()
    await until_done(app, one.json()["id"])
    assert len(await world.fetch("SELECT id FROM member")) == 2
    repeated = [await send(app, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert repeated[0].status_code == 202
    # The boundary of the second body is another one, so it is another request.
    assert repeated[1].status_code == 409


async def test_a_file_that_cannot_be_read_is_refused_at_once(world):
    app = await world.app("loader", "imports:write")
    for content in (b"", b"a,b\n1,2\n", b"\xd0\xcf\x11\xe0junk", b'phone\n"081'):
        answer = await send(app, content)
        assert answer.status_code == 422, answer.text
    assert (await send(app, profile="xx")).status_code == 422
    assert (await send(app, jurisdiction="XX")).status_code == 422
    assert (await send(app, dates="guess")).status_code == 422
    assert (await send(app, surprise="x")).status_code == 422
    assert (await app.post("/v1/imports", {"file": "x"})).status_code == 422
    answer = await app.request(
        "POST", "/v1/imports", content=b"x", headers={"Content-Type": "multipart/form-data"}
    )
    assert answer.status_code == 422
    assert await world.fetch("SELECT * FROM import_upload") == []


async def test_a_file_beyond_the_limit_is_refused_before_it_is_read(settings):
    limited = settings.model_copy(
        update={"members": settings.members.model_copy(update={"max_import_bytes": 2_048})}
    )
    async with open_world(limited, background=False) as world:
        app = await world.app("loader", "imports:write")
        answer = await send(app, CSV + "M9,a,0812345670,,\n" * 200)
        assert answer.status_code == 413
        assert (await send(app)).status_code == 202


async def test_without_the_scope_nothing_is_taken_in_and_another_brand_sees_nothing(world):
    crm = await world.app("crm", "members:write")
    assert (await send(crm)).status_code == 403
    app = await world.app("loader", "imports:write")
    other = await world.app("other", "imports:write", brand="other")
    import_id = (await send(app)).json()["id"]
    for path in (f"/v1/imports/{import_id}", f"/v1/imports/{import_id}/quarantine"):
        assert (await other.get(path)).status_code == 404
        assert (await crm.get(path)).status_code == 403


@pytest.mark.parametrize("named", ["คานารีเอ=คานารีบี", "คานารีเอ=phone", "ชื่อ=0812345678"])
async def test_a_refused_declaration_is_not_repeated(world, named):
    app = await world.app("loader", "imports:write")
    answer = await send(app, map=named)
    assert (answer.status_code, answer.json()["reason"]) == (422, "declaration")
    assert not any(value in answer.text for value in ("คานารี", "0812345678"))

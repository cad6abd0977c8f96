"""A hundred and ten people through every flow of the mission, and then looked for in what is left.

Each has ten identifiers that nobody has by chance. What may show them is left out: a view that
its purpose allows, the member's own pages and copy, the error file that staff mend. All else is
searched: database or dump, every file, log, metrics, refusals, addresses, titles, webhooks,
receipts, certificates, the exported log, every object of the backup, and what was restored.
"""

import tempfile
from pathlib import Path

import pytest

from audit import export_log
from service.metrics import MetricsServer
from tests.disclosure.test_webhooks import receiving
from tests.faults.test_canaries import Talk
from tests.support import mission as flows
from tests.support.canaries import Hunter, canary, normal_forms, remains, watched_log
from tests.support.console import office
from tests.support.mission import JOINING, PEOPLE, REGISTERED, SCOPES, Mission
from tests.support.stores import begin, create
from tests.support.world import JumpingClock, open_world

pytestmark = pytest.mark.anyio

SMALL = {"spooled", "names in copies"}
TYPES = ["consent.given", "consent.withdrawn", "member.erased", "member.rectified"]
OF_RIGHTS = {4, 5, 10, 11, 16, 17, 22, 23, 28, 29, 34}


def files_in(folder, name):
    """Every file of a folder with its name; keys hold no person and are searched like the rest."""
    return {
        f"{name}: {file.relative_to(folder)}": file.read_bytes() + b"\0" + str(file).encode()
        for file in folder.rglob("*")
        if file.is_file()
    }


def together(files, size):
    """The files, those of a kind in one haystack."""
    assert len(files) >= size, sorted(files)
    return b"\n\0\n".join(files.values())


@pytest.mark.slow
async def test_no_flow_of_the_mission_leaves_a_person_behind(
    settings, folder_store, restore, tmp_path, request, monkeypatch
):
    server = request.getfixturevalue("postgres_server") if settings.on_postgres else None
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    hay: dict[str, bytes] = {}
    assert len({(at, key) for at in range(PEOPLE) for key in canary(at)}) >= 1_000
    with watched_log() as log:
        async with office(settings, clock=JumpingClock()) as at, receiving() as receiver:
            world = at.world
            mission = Mission(at, Talk(await world.app("mission", *SCOPES)))
            hook = {"url": receiver.url, "types": TYPES}
            await mission.ask("POST", "/v1/webhooks", hook, wanted=201)
            made = [await flows.lives(mission, number) for number in REGISTERED]
            subs = [one["id"] for one in made]
            await mission.settle()
            await flows.out_to_apps(mission, subs)
            await begin(world, folder_store)
            await create(world)
            for number in REGISTERED:
                if number not in OF_RIGHTS:
                    await flows.goes_on(mission, number, made[number])
            await flows.brought_in(mission, tmp_path)
            await flows.matched(mission)
            await flows.guarded(mission)
            await flows.rights(mission, subs)
            for number in JOINING:
                await flows.joined(mission, number)
            await flows.stumbles(mission)
            place = await flows.opened(mission, subs[35], "access", prove=False)
            await flows.at_the_desk(mission, place)
            await mission.settle()
            assert await world.fetch("SELECT 1 FROM note_finding")
            await create(world)
            await flows.expire_copies(mission)
            await export_log(world.runtime.database, tmp_path / "bundle")
            hay["metrics"] = (await MetricsServer(world.runtime, world.edge).text()).encode()
            world.edge.flush_log()
            assert len(receiver.got) > 20
            hay["webhooks"] = b"\n".join(
                body + str(headers).encode() for headers, body in receiver.got
            )
            assert len(mission.talk.kept) > 1_500
            hay["answers"] = b"\n".join(mission.talk.kept)
            hay |= {name: b"\n".join(said) for name, said in mission.kept.items()}
            hay["codes"] = world.settings.outbox_file.read_bytes()
            hay |= {f"left: {name}": data for name, data in remains(world, server)}
            hunter = Hunter(normal_forms(world, PEOPLE))
        hay["data directory"] = together(files_in(settings.data_dir, "data"), 4)
        store = Path(folder_store.address.removeprefix("folder:"))
        hay["store"] = together(files_in(store, "store"), 20)
        made_again, told = await restore(settings, folder_store)
        assert told["generation"] == 2
        async with open_world(made_again) as restored:
            hay |= {f"restored: {name}": data for name, data in remains(restored, server)}
        hay["restored directory"] = together(files_in(made_again.data_dir, "restored"), 3)
    hay["bundle"] = together(files_in(tmp_path / "bundle", "bundle"), 3)
    hay["log"] = log.getvalue()
    hay["spooled"] = b"".join(files_in(spool, "spool").values())
    if server is not None:
        hay["log of PostgreSQL"] = (server.folder / "server.log").read_bytes()
    small = {name for name, data in hay.items() if len(data) < 500}
    assert {name for name in small if not name.endswith(("-wal", "-shm"))} <= SMALL
    found = {name: sorted(set(hunter.hunt(data)))[:5] for name, data in hay.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}

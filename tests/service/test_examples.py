"""The examples run as they are printed, against a server."""

import json
import subprocess
import sys

import pytest

from tests.support.serving import REPOSITORY, add_clients, environment, serving, yinyom

MEMBERS = [
    "เบอร์โทรศัพท์,ชื่อ",
    "081-555-0201,มาลี",
    "081-555-0202,อนันต์",
    "not a number,ปรียา",
]
PURCHASES = [
    "customer,date,items,amount",
    *(f"{at % 3:05},2026-10-{at + 1:02},1,{at + 10}.50" for at in range(6)),
    "00002,2026-10-09,1,free",
]


@pytest.mark.slow
def test_old_purchases_are_replayed_once_and_each_is_accounted_for(sqlite_settings, tmp_path):
    members, purchases = tmp_path / "members.csv", tmp_path / "purchases.csv"
    members.write_text("\n".join(MEMBERS), encoding="utf-8")
    purchases.write_text("\n".join(PURCHASES), encoding="utf-8")
    imported = yinyom(
        *("members", "import", members, "--brand", "main", "--region", "TH", "--dates", "iso"),
        "--json",
        data_dir=sqlite_settings.data_dir,
    )
    assert imported.answer["accepted"] == 2
    clients = add_clients(sqlite_settings, {"till": ("purpose:membership", "loyalty:write")})
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"clients": clients}))
    with serving(sqlite_settings) as server:
        command = [
            *(sys.executable, REPOSITORY / "examples" / "replay_purchases.py", purchases),
            *("--members", members, "--phone-column", "เบอร์โทรศัพท์"),
            *("--credentials", credentials, "--base-url", server.base_url),
        ]
        said = [
            subprocess.run(
                command, env=environment(), capture_output=True, text=True, check=True
            ).stdout.strip()
            for _ in range(2)
        ]
    assert said == [
        "2 members · 6 accepted · 0 repeated · 1 rejected",
        "2 members · 0 accepted · 6 repeated · 1 rejected",
    ]

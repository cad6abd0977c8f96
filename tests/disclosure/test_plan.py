"""The consented read finds everything by key, however many members there are."""

import contextlib
import sqlite3

from disclosure.repository import SELECT_ONE

TABLES = {
    *("pairwise_id", "member", "member_gate", "consent_state", "loyalty_account"),
    *("ordinary", "pseudonym"),
}


def test_each_table_of_the_read_is_searched_by_key(sqlite_settings):
    compiled = SELECT_ONE.compiled("sqlite")
    with contextlib.closing(sqlite3.connect(sqlite_settings.database_file)) as database:
        rows = database.execute(
            f"EXPLAIN QUERY PLAN {compiled.sql}", [""] * compiled.sql.count("?")
        ).fetchall()
    steps = [row[3].split() for row in rows]
    assert {step[1] for step in steps if step[0] == "SEARCH"} >= TABLES
    assert not [step for step in steps if step[0] == "SCAN"]

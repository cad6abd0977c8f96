"""Every table has its class: what is new stops backups until somebody has thought about it."""

import pytest
from sqlalchemy import LargeBinary

import service.runtime  # noqa: F401 (every room's tables are described once this is imported)
from backup import CLASSES, TableClass
from backup.classes import BLANKED, tables_of
from kernel import ConfigurationError, metadata


def test_every_table_has_a_class_and_every_class_a_table():
    assert set(CLASSES) == set(metadata.tables)


def test_a_table_without_a_class_stops_backups():
    with pytest.raises(ConfigurationError, match="newcomer"):
        tables_of(TableClass.DATA, [*metadata.tables, "newcomer"])


@pytest.mark.parametrize("table", ["vault_tag", "access_token", "contact_code", "portal_session"])
def test_what_would_betray_or_admit_somebody_is_in_no_backup(table):
    assert CLASSES[table] is TableClass.NEVER
    assert table not in tables_of(TableClass.DATA, metadata.tables)


def test_keys_are_in_no_data_backup():
    data = tables_of(TableClass.DATA, metadata.tables)
    assert not {"vault_key", "vault_bucket"} & set(data)


def test_no_data_table_holds_a_blind_index_that_is_not_blanked():
    described = {
        (table, column.name)
        for table in tables_of(TableClass.DATA, metadata.tables)
        for column in metadata.tables[table].columns
        if isinstance(column.type, LargeBinary) and column.name.endswith("_tag")
    }
    assert described == set(BLANKED)

"""`yinyom search-worker`: the search process, for those who start every process themselves."""

import sys

from service.cli.shell import Json, fail, settings_here


def search_worker(as_json: Json = False) -> None:
    """Hold names in memory to be searched; `serve` and `worker` start one where none runs."""
    from kernel.errors import ConfigurationError
    from service.search.process import MEBIBYTE, TAKEN, hold_names

    settings = settings_here(as_json=as_json)
    if not settings.search.enabled:
        fail(
            ConfigurationError(
                "searching by name is switched off",
                reason="search_off",
                remedy="Set search.enabled, or leave names unsearched.",
            ),
            as_json=as_json,
        )
    code = hold_names(settings.data_dir, settings.search.max_mb * MEBIBYTE)
    if code == TAKEN:
        fail(
            ConfigurationError(
                "another process holds the names of this data directory",
                reason="locked",
                remedy="One is enough; it answers every server that uses this directory.",
            ),
            as_json=as_json,
        )
    sys.exit(code)

"""What `yinyom doctor` says of the search: how warm, how large, how shut in."""

from service.runtime import Runtime

_MEBIBYTE = 1 << 20


async def search_opinion(runtime: Runtime) -> tuple[str, str]:
    """Give the state (`ok` or `warn`) of the search and what there is to say of it."""
    if not runtime.settings.search.enabled:
        return "ok", "off (search.enabled)"
    state = await runtime.search_keeper.client.state()
    if state is None:
        return "warn", "names are not searchable: no search process; `serve` starts one"
    members, size = state["members"], state["bytes"]
    each = f", {size / members:.0f} bytes a member" if members else ""
    held = f"{members} members, {size / _MEBIBYTE:.1f} of {state['most_bytes'] // _MEBIBYTE} MiB"
    if state["state"] == "full":
        return (
            "warn",
            f"not all names fit into {state['most_bytes'] // _MEBIBYTE} MiB: search.max_mb",
        )
    if state["state"] == "cold":
        return "warn", f"reading names into memory: {held}"
    if state["network"] != "none":
        return "warn", f"{held}{each}; it shares the network: the system grants no namespace"
    return "ok", f"{held}{each}; without network"

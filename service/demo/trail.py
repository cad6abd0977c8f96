"""The trail, checked as a stranger would."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from audit.verify import verify_bundle
from service.audit_commands import audit_export
from service.demo.scene import Scene
from service.demo.stage import DemoError


async def verify_log(scene: Scene) -> None:
    """Export the log, verify it from files, and see a forged one refused."""
    scene.stage.step("The trail, checked as a stranger would: from files and one public key")
    with tempfile.TemporaryDirectory(prefix="yinyom-demo-") as folder:
        bundle = Path(folder) / "log"
        made = await audit_export(scene.runtime, lambda _d, _t: None, out=str(bundle))
        report = await asyncio.to_thread(verify_bundle, bundle, made["vkey"])
        if not report.ok:
            raise DemoError("the exported log does not verify")
        scene.stage.done(f"audit verify OK: {report.size} events, root {report.root}")
        forged = Path(folder) / "forged"
        shutil.copytree(bundle, forged)
        where = _change_one_byte(forged)
        scene.stage.done(f"one byte changed in {where}")
        report = await asyncio.to_thread(verify_bundle, forged, made["vkey"])
        if report.ok:
            raise DemoError("the verifier let a changed byte through")
        scene.stage.done(f"audit verify names it: {report.findings[0]}")


def _change_one_byte(bundle: Path) -> str:
    tile = max((bundle / "tile" / "entries").rglob("*"))
    tile = tile if tile.is_file() else next(p for p in sorted(tile.rglob("*")) if p.is_file())
    data = bytearray(tile.read_bytes())
    data[len(data) // 2] ^= 1
    tile.write_bytes(data)
    return str(tile.relative_to(bundle))

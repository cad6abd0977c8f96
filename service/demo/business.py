"""The business of a loyalty brand: the old list comes in."""

import csv
import tempfile
from pathlib import Path

from members import PROFILES
from service.demo.scene import Scene
from service.demo.stage import DemoError
from service.tasks import system_caller

SAMPLE = Path(__file__).parents[1] / "sample" / "members_sample.csv"
_IGNORED_COLUMNS = {"language": "", "region": "", "marketing_sms": "", "marketing_email": "",
                    "marketing_line": ""}  # fmt: skip


async def import_the_old_list(scene: Scene) -> None:
    """Import the sample list and account for every row."""
    scene.stage.step("The old membership list comes in, messy as it is")
    totals = {"rows": 0, "accepted": 0, "quarantined": 0, "exact_repeats": 0}
    issues: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="yinyom-demo-") as folder:
        for region, file in _by_region(Path(folder)):
            declared = PROFILES["plain"].declare(
                phone_region=region, date_era="iso", columns=_IGNORED_COLUMNS
            )
            report = await scene.runtime.imports.run(
                system_caller("cli", scene.settings.brand),
                file,
                declared,
                brand=scene.settings.brand,
                jurisdiction="TH",
            )
            for name in totals:
                totals[name] += getattr(report, name)
            for reason, count in report.issues.items():
                issues[reason] = issues.get(reason, 0) + count
    scene.stage.table(
        ["rows", "accepted", "quarantined", "exact repeats"],
        [[str(totals[name]) for name in totals]],
    )
    accounted = totals["accepted"] + totals["quarantined"] + totals["exact_repeats"]
    if accounted != totals["rows"]:
        raise DemoError("the import did not account for every row")
    scene.stage.done("every row is stored, set aside with its reason, or a known repeat")
    for reason, count in sorted(issues.items()):
        scene.stage.done(f"set aside: {reason} × {count}")


def _by_region(folder: Path) -> list[tuple[str, Path]]:
    """Split the sample by its region column: a phone's region is declared per file."""
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header, region_at = rows[0], rows[0].index("region")
    regions: dict[str, list[list[str]]] = {}
    for row in rows[1:]:
        region = row[region_at] if len(row) == len(header) else "TH"
        regions.setdefault(region or "TH", []).append(row)
    files: list[tuple[str, Path]] = []
    for region, part in sorted(regions.items()):
        path = folder / f"{region}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
        files.append((region, path))
    return files

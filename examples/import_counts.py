"""Imports the sample member files with `yinyom members import`; holds the counts to the truth.

    python examples/import_counts.py [FOLDER]

FOLDER has the five exports and `truth.json`; without it, `$YINYOM_SHARED/data/members`. Each file
goes into a fresh registry of its own. Exit status 1 when any count differs.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

YINYOM = [sys.executable, "-c", "from service.cli import main; main()"]
DECLARED = {
    "th.csv": (["--profile", "th"], "utf-8-sig"),
    "th_cp874.csv": (["--profile", "th", "--encoding", "cp874"], "cp874"),
    "tw.csv": (["--profile", "tw"], "utf-8-sig"),
    "tw_big5.csv": (["--profile", "tw", "--encoding", "big5"], "cp950"),
    "en.csv": (["--profile", "en", "--region", "TH"], "utf-8-sig"),
}


def yinyom(data_dir: Path, *arguments: str) -> dict[str, object]:
    """Run a command of the command line and read its answer."""
    command = [*YINYOM, "--data-dir", str(data_dir), *arguments, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (ours)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def expected(path: Path, encoding: str, truth: list[dict[str, object]]) -> dict[str, object]:
    """Count what the truth says, rows that repeat an earlier one apart."""
    with path.open(encoding=encoding, newline="") as file:
        rows = [tuple(row) for row in csv.reader(file) if any(row)][1:]
    outcomes: Counter[str] = Counter()
    issues: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    for row, true in zip(rows, truth, strict=True):
        if row in seen:
            outcomes["exact_repeats"] += 1
            continue
        seen.add(row)
        outcomes[str(true["outcome"])] += 1
        issues.update(".".join(issue) for issue in true["issues"])  # type: ignore[attr-defined]
    return {
        "rows": len(truth),
        "accepted": outcomes["accepted"],
        "quarantined": outcomes["quarantined"],
        "exact_repeats": outcomes["exact_repeats"],
        "issues": dict(issues),
    }


def main() -> int:
    """Import every file and compare."""
    shared = Path(os.environ.get("YINYOM_SHARED", "../shared")) / "data" / "members"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else shared
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    names = ("rows", "accepted", "quarantined", "exact_repeats")
    print("| File | " + " | ".join(names) + " | Kinds of issue | Seconds | As the truth says |")
    print("|---|" + "---:|" * (len(names) + 2) + "---|")
    wrong = 0
    for name, (options, encoding) in DECLARED.items():
        with tempfile.TemporaryDirectory() as place:
            data_dir = Path(place) / "data"
            yinyom(data_dir, "init", "--yes")
            report = yinyom(data_dir, "members", "import", str(folder / name), *options)
        wanted = expected(folder / name, encoding, truth[name])
        fits = all(report[key] == value for key, value in wanted.items())
        wrong += not fits
        counts = " | ".join(str(report[key]) for key in names)
        kinds = len(report["issues"])  # type: ignore[arg-type]
        print(f"| {name} | {counts} | {kinds} | {report['seconds']} | {'yes' if fits else 'NO'} |")
        for key, value in wanted.items():
            if report[key] != value:
                print(f"  {name}: {key} is {report[key]}, the truth says {value}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

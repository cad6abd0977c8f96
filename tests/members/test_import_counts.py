"""The counts of the sample files, through the command line, as an operator would get them."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_all_sample_files_are_imported_as_the_truth_says(member_files, repository_root):
    script = repository_root / "examples" / "import_counts.py"
    environment = {**os.environ, "PYTHONPATH": str(repository_root)}
    ended = subprocess.run(
        [sys.executable, script, member_files],
        cwd=repository_root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("| yes |") == 5

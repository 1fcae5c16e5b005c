from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONFIGURATION = HERE.parent.parent / "pyproject.toml"


@pytest.mark.timeout(300)
def test_type_checkers_infer_what_users_rely_on() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(CONFIGURATION), str(HERE)],
        cwd=CONFIGURATION.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr

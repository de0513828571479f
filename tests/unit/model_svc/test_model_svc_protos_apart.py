"""Clients of the inference protocol bring protos of the same names, which Python has once."""

import subprocess
import sys

SCRIPT = """
import sys
import executor_svc.worker, stepwire.sdk
assert not [name for name in sys.modules if name.startswith("stepwire.api.inference")]
"""


def test_a_worker_leaves_the_names_to_its_functions() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Run a spoilt executor or worker: `python -m tests.chaos.broken executor|worker`.

The environment variable STEPWIRE_CHAOS_BROKEN names the module that spoils it.
"""

import importlib
import os
import sys

from executor_svc import app, worker
from executor_svc.settings import ExecutorSettings, WorkerSettings

if __name__ == "__main__":
    (kind,) = sys.argv[1:]
    importlib.import_module(f"tests.chaos.broken.{os.environ['STEPWIRE_CHAOS_BROKEN']}").apply()
    if kind == "executor":
        app.run(ExecutorSettings())
    else:
        worker.run(WorkerSettings())

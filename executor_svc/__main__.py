"""`python -m executor_svc`: the executor service."""

from executor_svc.app import run
from executor_svc.settings import ExecutorSettings

if __name__ == "__main__":
    run(ExecutorSettings())

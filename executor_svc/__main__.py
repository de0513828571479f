"""`python -m executor_svc`: the executor service."""

from executor_svc.app import run
from executor_svc.settings import ExecutorSettings
from stepwire.environment import read_settings

if __name__ == "__main__":
    run(read_settings(ExecutorSettings))

"""The background supervisor: `python -m stepwire.stack`, its options on standard input."""

import sys

from stepwire.stack.daemon import StackError, run_stack
from stepwire.stack.detached import decode_options
from stepwire.stack.home import AlreadyRunningError


def main() -> None:
    """Runs the stack until it is told to stop."""
    options = decode_options(sys.stdin.buffer.read())
    try:
        run_stack(options, on_change=lambda _: None)
    except (AlreadyRunningError, StackError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

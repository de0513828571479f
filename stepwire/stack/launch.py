"""Run a program that cannot outlive the process that started it.

Used as a script, `python -I -S launch.py ACCOUNT SIGNAL PARENT PROGRAM [ARGUMENT...]`,
and imported by nothing: between fork and exec only a fresh process may safely change
its user and ask the kernel for a signal on its parent's death.

ACCOUNT is the user to become, or "-" to stay; SIGNAL is the number that the kernel
sends when the parent dies; PARENT is the parent's process id.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PARENT_GONE = 125


def main() -> None:
    """Changes user, bind the process to its parent's life, become the program."""
    account, death_signal, parent, *program = sys.argv[1:]
    if account != "-":
        entry = pwd.getpwnam(account)
        os.initgroups(account, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    # After the change of user, since that change clears the setting.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit(PARENT_GONE)
    os.execvpe(program[0], program, os.environ)  # noqa: S606  (this script's purpose)


if __name__ == "__main__":
    main()

"""The account that Postgres runs as, and the places that account can reach.

Postgres refuses to run as root. When root starts the stack, Postgres runs under a
system account made for it, and its binaries and data must lie where that account can
go: a checkout under /root is closed to it. Permissions are never widened; what cannot
be reached is put under /var/lib/stepwire instead.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ACCOUNT = "stepwire"
SHARED_FOLDER = Path("/var/lib/stepwire")


class AccountError(Exception):
    """The account for Postgres is missing and could not be made."""


def postgres_account() -> str | None:
    """Returns the account Postgres is to run as; None for the caller's own."""
    return ACCOUNT if os.geteuid() == 0 else None


def ensure_account(account: str) -> None:
    """Makes the system account unless it is there.

    Raises:
        AccountError: It cannot be made.
    """
    if not _exists(account):
        _create(account)


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _create(account: str) -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    advice = "run as an ordinary user, or create the system account yourself"
    if useradd is None:
        raise AccountError(
            f"Postgres does not run as root, and there is no useradd to make the account "
            f"{account!r} for it: {advice}"
        )
    made = subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", account],
        capture_output=True,
        text=True,
        check=False,
    )
    # Another process may have made it in the meantime.
    if made.returncode != 0 and not _exists(account):
        raise AccountError(
            f"Postgres does not run as root, and the account {account!r} could not be made "
            f"({made.stderr.strip()}): {advice}"
        )


def can_enter(path: Path, account: str) -> bool:
    """Returns whether `account` can go through every folder above `path`.

    An account that is still to be made is taken for one that owns nothing.
    """
    user, groups = _identity(account)
    for folder in path.resolve().parents:
        try:
            status = folder.stat()
        except FileNotFoundError:
            # Still to be made, with the usual permissions of a new folder.
            continue
        if status.st_uid == user:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid in groups:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def _identity(account: str) -> tuple[int | None, set[int]]:
    """Returns the account's user number and the numbers of its groups."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        return None, set()
    return entry.pw_uid, set(os.getgrouplist(account, entry.pw_gid))


def reachable_folder(wanted: Path, account: str | None, *, key: str) -> Path:
    """Returns `wanted`, or the folder that stands in for it where `account` can go.

    Args:
        wanted: Where the folder should be.
        account: Who is to use it; None for the present user.
        key: Tells the stand-in from that of an earlier folder of the same path, whose
            removal did not reach its stand-in.
    """
    if account is None or can_enter(wanted, account):
        return wanted
    return SHARED_FOLDER / f"{_digest(wanted)}-{key}" / wanted.name


def stand_ins(wanted: Path) -> list[Path]:
    """Returns the parents of all stand-ins for `wanted`, earlier ones included."""
    return list(SHARED_FOLDER.glob(f"{_digest(wanted)}-*"))


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def reachable_copy(root: Path, folders: Sequence[str], account: str | None, *, name: str) -> Path:
    """Returns `root`, or a copy of some of its folders where `account` can read them.

    The copy is made once per name, in one atomic step, and serves every checkout.

    Args:
        root: What the folders are relative to.
        folders: What is needed of it; those that are missing are passed over.
        account: Who is to read it; None for the present user, who can.
        name: Names the copy, version included.
    """
    if account is None or all(can_read(root / folder, account) for folder in folders):
        return root
    copy = SHARED_FOLDER / name
    if copy.exists():
        return copy
    make_shared_folder()
    with tempfile.TemporaryDirectory(dir=SHARED_FOLDER) as scratch:
        fresh = Path(scratch) / name
        for folder in filter(lambda folder: (root / folder).exists(), folders):
            shutil.copytree(root / folder, fresh / folder, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH | _search(path))
        try:
            fresh.rename(copy)
        except OSError:
            # Another process put the same copy in place first.
            if not copy.exists():
                raise
    return copy


def can_read(folder: Path, account: str) -> bool:
    """Returns whether `account` can enter a folder and all may read what is in it.

    A missing folder hides nothing.
    """
    if not folder.exists():
        return True
    return can_enter(folder / "file", account) and all(
        path.stat().st_mode & stat.S_IROTH for path in folder.rglob("*") if path.is_file()
    )


def make_folder(folder: Path, account: str | None) -> None:
    """Makes a folder that belongs to `account` and can be reached by it."""
    if folder.is_relative_to(SHARED_FOLDER):
        make_shared_folder()
        folder.parent.mkdir(exist_ok=True)
        folder.parent.chmod(0o755)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if account is not None:
        shutil.chown(folder, account, account)


def make_shared_folder() -> None:
    """Makes the folder that stands in for unreachable ones, open to every account."""
    SHARED_FOLDER.mkdir(parents=True, exist_ok=True)
    SHARED_FOLDER.chmod(0o755)


def _search(path: Path) -> int:
    """Returns the execute bits for all of a folder or of an executable file."""
    if path.stat().st_mode & stat.S_IXUSR:
        return stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    return 0

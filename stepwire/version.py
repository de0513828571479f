"""Which version of Stepwire this is."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version of the installed package; `checkout` for sources without one."""
    try:
        return version("stepwire")
    except PackageNotFoundError:
        return "checkout"

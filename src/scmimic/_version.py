"""The version of scmimic."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Version of the installed scmimic; ``"unknown"`` where it is run without being installed."""
    try:
        return version("scmimic")
    except PackageNotFoundError:
        return "unknown"

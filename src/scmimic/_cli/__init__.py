"""Command line: thin wrappers that say what went wrong in one line, in the words of the command line."""

from scmimic._cli._commands import app

__all__ = ["app"]

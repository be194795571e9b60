"""The report: one self-contained HTML page on how real synthetic cells are, and its numbers for programs."""

from scmimic._report._json import write_json
from scmimic._report._page import TITLE, report

__all__ = ["TITLE", "report", "write_json"]

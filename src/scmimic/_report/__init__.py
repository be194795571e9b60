"""The report: one self-contained HTML page on how real synthetic cells are."""

from scmimic._report._page import TITLE, report

__all__ = ["TITLE", "report"]

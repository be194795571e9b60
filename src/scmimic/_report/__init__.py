"""The report: one self-contained HTML page on how real synthetic cells are."""

from scmimic._report._page import Report, Settings, report, write_report

__all__ = ["Report", "Settings", "report", "write_report"]

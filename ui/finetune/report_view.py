"""The pre-flight report: how much of the data will be learnt, what not, and why."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.finetune.check import Preflight
from ui.finetune.samples import SampleView
from ui.theme import SMALL, Theme
from ui.widgets.message import Message
from ui.widgets.section import CollapsibleSection
from ui.widgets.text import wrapping
from workbench.data import DataReport

REASONS_SHOWN: Final = 3
ROWS_SHOWN: Final = 4


def figures(report: DataReport) -> str:
    """Rows, tokens and the longest sequence, a line each."""
    rows = [f"{report.kept:,} rows kept", f"{report.dropped:,} left out", f"{report.truncated:,} cut"]
    if report.duplicates:
        rows.append(f"{report.duplicates:,} twice")
    if not report.sequences:
        return " · ".join(rows)
    share = f" ({100 * report.trained_tokens / report.tokens:.0f} %)" if report.tokens else ""
    tokens = f"{report.trained_tokens:,} of {report.tokens:,} tokens learnt{share}"
    return f"{' · '.join(rows)}\n{tokens}\nLongest sequence: {report.longest:,} tokens"


def problem_lines(report: DataReport) -> str:
    """Rows that were left out, gathered by reason: "Rows 2, 3, 5 and 9 more: why"."""
    by_reason: dict[tuple[str, str], list[int]] = {}
    for p in report.problems:
        by_reason.setdefault((p.file, p.reason), []).append(p.row)
    several = len({p.file for p in report.problems}) > 1
    lines = [f"{_place(file, rows, several)}: {reason}" for (file, reason), rows in list(by_reason.items())[:REASONS_SHOWN]]
    if len(by_reason) > REASONS_SHOWN:
        lines.append(f"… and {len(by_reason) - REASONS_SHOWN} more reasons")
    return "\n".join(lines)


def _place(file: str, rows: list[int], name_file: bool) -> str:
    if rows == [0]:
        return file
    shown = ", ".join(map(str, rows[:ROWS_SHOWN]))
    more = f" and {len(rows) - ROWS_SHOWN:,} more" if len(rows) > ROWS_SHOWN else ""
    return f"{f'{file}, row' if name_file else 'Row'}{'s' if len(rows) > 1 else ''} {shown}{more}"


def fixes(report: DataReport) -> str:
    """What to do about them, each said once."""
    return "\n".join(list(dict.fromkeys(p.fix for p in report.problems if p.fix))[:REASONS_SHOWN])


def all_problems(report: DataReport) -> str:
    """Everything known about rows that were left out, for Details and Copy."""
    counted = [f"{rows:,} × {reason}" for reason, rows in report.reasons]
    return "\n".join([*counted, "", *map(str, report.problems)]).strip()


class ReportView(QWidget):
    """Follows a `Preflight`; shows nothing while there is nothing to say."""

    again = Signal()
    """A person wants the data to be read once more."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.figures = wrapping(name="figures")
        self.refresh = QToolButton(autoRaise=True)
        self.refresh.setToolTip("Read the data once more, after a file was changed.")
        self.refresh.setAccessibleName("Check the data again")
        icons.bind(self.refresh, "refresh", theme)
        self.refresh.clicked.connect(self.again)
        self.message = Message(theme)
        self.samples = CollapsibleSection("Samples, with what is learnt", expanded=False, quiet=True)
        self.sample_view = SampleView(theme)
        self.samples.body_layout.addWidget(self.sample_view)
        line = QHBoxLayout(spacing=SMALL)
        line.addWidget(self.figures, 1)
        line.addWidget(self.refresh)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        layout.addLayout(line)
        layout.addWidget(self.message)
        layout.addWidget(self.samples)
        self.hide()

    def follow(self, check: Preflight) -> None:
        """Show how the check stands."""
        report = check.report
        self.setVisible(check.word != "none")
        if check.word == "checking":
            self.figures.setText(f"Checking the data… {check.progress}".strip())
        elif report is not None:
            self.figures.setText(figures(report))
        self.figures.setVisible(check.word == "checking" or report is not None)
        self.refresh.setVisible(check.word in ("checked", "failed"))
        self.samples.setVisible(report is not None and bool(report.samples))
        if report is not None:
            self.sample_view.set_samples(report.samples)
        self._say(check)

    def _say(self, check: Preflight) -> None:
        report, failure = check.report, check.failure
        fix = fixes(report) if report is not None else ""
        if failure is not None:
            self.message.say("error", "The data cannot be used.", failure.message, failure.hint, failure.details)
        elif report is not None and not report.rows:
            self.message.say("error", "Nothing to learn: the data are empty.", "No rows were found.", "Choose a file with examples in it.")
        elif report is not None and not report.usable:
            what = f"all {report.rows:,} rows were" if report.rows > 1 else "the only row was"
            title = f"Nothing to learn: {what} left out."
            self.message.say("error", title, problem_lines(report), fix or "Correct the rows.", all_problems(report))
        elif report is not None and report.dropped:
            title = f"{report.dropped:,} of {report.rows:,} rows {'was' if report.dropped == 1 else 'were'} left out."
            notes = "\n".join(report.notes)
            self.message.say("warning", title, problem_lines(report), f"{fix}\n{notes}".strip(), all_problems(report))
        elif report is not None and report.notes:
            self.message.say("info", report.notes[0], "\n".join(report.notes[1:]))
        self.message.setVisible(failure is not None or (report is not None and (not report.usable or bool(report.dropped or report.notes))))

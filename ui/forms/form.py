"""A form made from a config's own description. See `ConfigForm`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from PySide6.QtCore import SIGNAL, QEvent, QObject, QPoint, Qt, Signal, Slot
from PySide6.QtGui import QContextMenuEvent, QKeyEvent
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QScrollArea, QVBoxLayout, QWhatsThis, QWidget

from ui.forms.badges import show_badges
from ui.forms.callout import Callout, row_to_speak_of
from ui.forms.choice import ChoiceEditor
from ui.forms.editors import Editor, make_editor
from ui.forms.help import field_html, plain_value
from ui.forms.menu import field_menu
from ui.forms.placing import place
from ui.forms.row import INDENT, FieldRow
from ui.forms.search import filter_rows
from ui.theme import GRID
from ui.widgets.labels import MutedLabel
from ui.widgets.section import CollapsibleSection
from ui.widgets.tones import colours_of
from workbench.core.errors import WorkbenchError
from workbench.core.fields import FieldInfo, Problem, describe, field_problems


class ConfigForm(QWidget):
    """Widgets for the fields of a frozen config dataclass.

    `value` is always the config as shown (a new object after each edit); `changed` carries it, only after a person's edit.
    `groups` limits the form to these groups, in this order; `exclude` leaves fields out (their values are kept). With
    `compact` the groups have no headers. A `searchable` form has a filter line at its top. The form has no scroll area:
    whoever shows it decides what scrolls.
    """

    changed = Signal(object)
    problems_changed = Signal(object)
    """list[Problem] of the whole config, unreadable texts included."""
    explained = Signal(object)
    """FieldRow a person asks about (F1, or a click on its label). While nobody listens, the help is shown over the form."""

    def __init__(
        self,
        config_type: type,
        value: Any = None,
        *,
        groups: Sequence[str] | None = None,
        exclude: Iterable[str] = (),
        compact: bool = False,
        searchable: bool = False,
        parent: QWidget | None = None,
        _depth: int = 0,
        _path: str = "",
    ) -> None:
        super().__init__(parent)
        self.config_type = config_type
        self._nested, self._compact, self._depth, self._path = _depth > 0, compact, _depth, _path
        self._value = config_type() if value is None else value
        self.baseline: Any = None
        """What "changed" is told against, and what a reset goes back to; None: the defaults."""
        self._problems: list[Problem] = []
        self._refused: list[Problem] = []
        self._states: dict[str, tuple[bool, str]] = {}
        self.hovered_row: FieldRow | None = None
        self.edited_row: FieldRow | None = None
        self.rows: dict[str, FieldRow] = {}
        self.sections: dict[str, CollapsibleSection] = {}
        self._inner: dict[str, CollapsibleSection] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(GRID // 2 if compact else GRID if _depth else 2 * GRID)
        self.search = QLineEdit(self, placeholderText="Find a setting", clearButtonEnabled=True)
        self.search.setAccessibleName("Find a setting")
        self.search.textChanged.connect(self.filter)
        self.search.setVisible(searchable)
        self.nothing = MutedLabel("No setting here speaks of that.", self)
        self.nothing.hide()
        if searchable:
            self._layout.addWidget(self.search)
            self._layout.addWidget(self.nothing)
        self._build(groups, set(exclude))
        self._unplaced = QLabel(wordWrap=True)
        self._unplaced.hide()
        self._layout.addWidget(self._unplaced)
        self.callout = Callout(self)
        self._show_all()
        self._order_tabs()
        self._check()

    # ---- construction --------------------------------------------------------------------------------------------

    def _build(self, groups: Sequence[str] | None, exclude: set[str]) -> None:
        infos = [i for i in describe(self.config_type) if i.name not in exclude]
        wanted = list(dict.fromkeys(i.group for i in infos)) if groups is None else list(groups)
        for group in wanted:
            members = [i for i in infos if i.group == group]
            if members:
                self._build_group(group, members, alone=len(wanted) == 1 or not group)

    def _build_group(self, group: str, infos: list[FieldInfo], alone: bool) -> None:
        plain = [i for i in infos if not i.advanced]
        advanced = [i for i in infos if i.advanced]
        layout = self._layout
        if not (alone or self._compact or self._nested):
            section = CollapsibleSection(group, expanded=bool(plain))
            self.sections[group] = section
            self._layout.addWidget(section)
            layout = section.body_layout
        for info in plain:
            layout.addWidget(self._make_row(info))
        if advanced and (plain or group not in self.sections):
            inner = CollapsibleSection("Advanced", expanded=False, quiet=True, indent=INDENT * self._depth)
            inner.header.setAccessibleName(f"{group}: advanced settings".strip(": "))
            self._inner[group] = inner
            layout.addWidget(inner)
            layout = inner.body_layout
        for info in advanced:
            layout.addWidget(self._make_row(info))

    def _make_row(self, info: FieldInfo) -> FieldRow:
        path = self._path + info.name
        editor: Editor = ChoiceEditor(info, partial(self._make_nested, f"{path}.")) if info.is_choice else make_editor(info)
        editor.set_value(getattr(self._value, info.name))
        row = FieldRow(info.name, editor, compact=self._compact, depth=self._depth, path=path)
        editor.edited.connect(self._on_edited)
        row.menu_wanted.connect(self._show_menu)
        row.reset_wanted.connect(self.reset)
        row.help_wanted.connect(self.explain)
        row.hovered.connect(self._on_hovered)
        if isinstance(editor, ChoiceEditor):
            editor.swapped.connect(self._on_swapped)
        for stop in [editor.combo] if isinstance(editor, ChoiceEditor) else editor.stops():
            stop.installEventFilter(self)
            stop.setProperty("field", info.name)
        self.rows[info.name] = row
        return row

    def _make_nested(self, path: str, config_type: type, value: Any) -> ConfigForm:
        form = ConfigForm(config_type, value, compact=self._compact, _depth=self._depth + 1, _path=path)
        form.problems_changed.connect(self._on_nested_problems)
        return form

    # ---- the value -----------------------------------------------------------------------------------------------

    @property
    def value(self) -> Any:
        """The config as shown; typing that was not yet confirmed is taken over first."""
        self.commit()
        return self._value

    def set_value(self, value: Any) -> None:
        """Show another config; no signal."""
        if not isinstance(value, self.config_type):
            raise TypeError(f"this form edits {self.config_type.__name__}, not {type(value).__name__}")
        self._value = value
        self.edited_row = None
        self._refused = []
        self._show_all()
        self._check()

    def take(self, value: Any) -> None:
        """Show another config as if a person had entered it: `changed` follows when it differs."""
        before = self._value
        self.set_value(value)
        if value != before:
            self.changed.emit(value)

    def set_baseline(self, value: Any) -> None:
        """Mark as changed what differs from `value`, and reset to it; None: the defaults of the config."""
        self.baseline = value
        for row in self.rows.values():
            if isinstance(row.editor, ChoiceEditor):
                row.editor.set_baseline(None if value is None else getattr(value, row.name))
        self._show_rows()

    def default_of(self, info: FieldInfo) -> Any:
        """What a reset of the field goes back to; MISSING for a required field without a baseline."""
        return info.default if self.baseline is None else getattr(self.baseline, info.name)

    def has_default(self, info: FieldInfo) -> bool:
        return self.default_of(info) is not dataclasses.MISSING

    def commit(self) -> None:
        for row in self.rows.values():
            row.editor.commit()

    @Slot(str)
    def reset(self, name: str | None = None) -> None:
        """Set one field, or all that are shown, to the default; emits `changed` once if anything was different."""
        defaults = {i.name: d for i in describe(self.config_type) if (d := self.default_of(i)) is not dataclasses.MISSING}
        names = [n for n in (self.rows if name is None else (name,)) if n in defaults]
        self._take({n: defaults[n] for n in names})
        for n in names:
            self.rows[n].editor.set_value(getattr(self._value, n))
        self._check()

    def _take(self, values: dict[str, Any]) -> bool:
        """A new config with these values; True when it differs, after telling so."""
        self._refused = []
        try:
            new = dataclasses.replace(self._value, **values)
        except WorkbenchError as error:
            self._refused = [Problem(next(iter(values)), error.message, error.hint or "")]
            return False
        if new == self._value:
            return False
        self._value = new
        self._check()
        self.changed.emit(new)
        return True

    def _show_all(self) -> None:
        for name, row in self.rows.items():
            row.editor.set_value(getattr(self._value, name))

    @Slot()
    def _on_edited(self) -> None:
        editor = self.sender()
        row = next(r for r in self.rows.values() if r.editor is editor)
        self.edited_row = row
        if row.editor.error or not self._take({row.name: row.editor.value()}):
            self._check()

    @Slot()
    def _on_swapped(self) -> None:
        if hasattr(self, "callout"):
            self.root().follow_swap()

    def follow_swap(self) -> None:
        """After other options were put in place: tab order and filter apply to them too."""
        self._order_tabs()
        if self.search.text():
            self.filter(self.search.text())
        self._show_states()

    # ---- problems ------------------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the whole config; empty when it is usable."""
        self.commit()
        return list(self._problems)

    def problem_text(self, name: str) -> str:
        """What is shown at a field (dotted for options of a kind); empty when nothing is wrong."""
        row = self.row(name)
        return row.problem if row is not None else ""

    def _check(self) -> None:
        """Ask the config what is wrong, and put each answer at its field. Options ask the form they belong to."""
        if self._nested:
            self._show_rows()
            self.problems_changed.emit(self._unreadable())
            return
        ask = getattr(self._value, "problems", None)
        found = list(ask()) if callable(ask) else field_problems(self._value)
        unreadable = self._unreadable()
        texts = {p.field for p in unreadable}
        self._set_problems(unreadable + [p for p in found if p.field not in texts])

    def _unreadable(self, prefix: str = "") -> list[Problem]:
        """Texts that are no value, and values the config refused; both are not in `value`."""
        found = [dataclasses.replace(p, field=prefix + p.field) for p in self._refused]
        for name, row in self.rows.items():
            if row.editor.error:
                found.append(Problem(prefix + name, row.editor.error, f"It stays {plain_value(row.info, row.editor.value())} until then."))
            if isinstance(row.editor, ChoiceEditor) and row.editor.form is not None:
                found += row.editor.form._unreadable(f"{prefix}{name}.")
        return found

    @Slot(object)
    def _on_nested_problems(self, _problems: object) -> None:
        if hasattr(self, "callout"):
            self._check()

    def _set_problems(self, problems: list[Problem]) -> None:
        news = problems != self._problems
        self._problems = problems
        for row in self.rows.values():
            row.problem = ""
        unplaced = place(self, problems)
        self._unplaced.setText("\n".join(str(p) for p in unplaced))
        self._unplaced.setStyleSheet(f"color: {colours_of(self).error};")
        self._unplaced.setVisible(bool(unplaced))
        self._show_rows()
        self._show_callout()
        if news:
            self.problems_changed.emit(list(problems))

    def set_problems_from_parent(self, problems: list[Problem]) -> None:
        for row in self.rows.values():
            row.problem = ""
        self._problems = problems
        place(self, problems)
        self._show_rows()

    def _show_rows(self) -> None:
        """Marks, tooltips and names of every row, and the counts in the headers."""
        for name, row in self.rows.items():
            value = getattr(self._value, name)
            default = self.default_of(row.info)
            row.set_problem(row.problem, default is not dataclasses.MISSING and value != default)
            told = (value, row.problem, row.reason)
            if told == row.told:
                continue
            row.told = told
            html = field_html(row.info, value, problem=row.problem, reason=row.reason)
            row.setToolTip(html)
            row.setWhatsThis(html)
            described = " ".join(t for t in (row.problem, row.reason, row.info.help) if t)
            row.describe(described)
        show_badges(self)

    def _show_callout(self) -> None:
        root = self.root()
        row = row_to_speak_of(root)
        if row is None:
            root.callout.hide()
        else:
            line = row.line_rect().toRect()
            line.moveTopLeft(row.mapTo(root, line.topLeft()))
            root.callout.show_at(line, row.problem)

    def focused_row(self) -> FieldRow | None:
        widget = QApplication.focusWidget()
        while widget is not None and widget is not self:
            if isinstance(widget, FieldRow):
                return widget if self.isAncestorOf(widget) else None
            widget = widget.parentWidget()
        return None

    # ---- fields --------------------------------------------------------------------------------------------------

    def root(self) -> ConfigForm:
        """The form that contains this one's choice, or itself."""
        form, widget = self, self.parentWidget()
        while widget is not None and form._nested:
            if isinstance(widget, ConfigForm):
                form = widget
            widget = widget.parentWidget()
        return form

    def all_forms(self) -> Iterator[ConfigForm]:
        """This form and those of the kinds now chosen."""
        yield self
        for row in self.rows.values():
            if isinstance(row.editor, ChoiceEditor) and row.editor.form is not None:
                yield from row.editor.form.all_forms()

    def row(self, name: str) -> FieldRow | None:
        """The row of a field, dotted for options of the kind now chosen; None when it is not shown."""
        first, _, rest = name.partition(".")
        row = self.rows.get(first)
        if row is None or not rest:
            return row
        form = row.editor.form if isinstance(row.editor, ChoiceEditor) else None
        return form.row(rest) if form is not None else None

    def editor(self, name: str) -> Editor:
        """The editor of a field; dotted for the options of the kind now chosen ("position.base")."""
        row = self.row(name)
        if row is None:
            raise KeyError(f"the form shows no field {name!r}")
        return row.editor

    def set_field_state(self, name: str, enabled: bool, reason: str = "") -> None:
        """Allow or forbid editing a field; the reason is read in its tooltip. Dotted names hold whenever their kind is chosen."""
        self._states[name] = (enabled, reason)
        self._show_states()
        self._show_rows()

    def _show_states(self) -> None:
        for name, (enabled, reason) in self._states.items():
            row = self.row(name)
            if row is not None:
                row.set_enabled(enabled, reason)

    def focus_field(self, name: str) -> None:
        """Open the field's section, bring it into view and give it the focus."""
        row = self.row(name)
        if row is None:
            return
        widget: QWidget | None = row
        while widget is not None:
            if isinstance(widget, CollapsibleSection):
                widget.set_expanded(True)
            if isinstance(widget, QScrollArea):
                widget.ensureWidgetVisible(row)
            widget = widget.parentWidget()
        row.editor.stops()[0].setFocus(Qt.FocusReason.OtherFocusReason)

    def stops(self) -> list[QWidget]:
        """Every widget Tab reaches, headers included, in the order on screen."""
        found: list[QWidget] = []
        for row in self.rows.values():
            for section in self.all_sections():
                if section.header not in found and section.isAncestorOf(row):
                    found.append(section.header)
            found += row.editor.stops()
        return found

    def _order_tabs(self) -> None:
        if self._nested:
            return
        for first, second in pairwise([self.search, *self.stops()]):
            QWidget.setTabOrder(first, second)

    @Slot(str)
    def filter(self, text: str) -> bool:
        """Show the rows that speak of `text` in label, key, help, kinds or their options; all when empty. True when any is left."""
        found = filter_rows(self, text)
        self.nothing.setVisible(not found)
        return found

    def all_sections(self) -> tuple[CollapsibleSection, ...]:
        return (*self.sections.values(), *self._inner.values())

    # ---- help and menus ------------------------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        asks = event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_F1
        if asks and self.focused_row() is not None:  # before the window's own F1
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        row = self.focused_row() if event.key() == Qt.Key.Key_F1 else None
        if row is None:
            super().keyPressEvent(event)
            return
        self.explain(row)

    @Slot(object)
    def explain(self, row: FieldRow) -> None:
        """Tell all about a field: by whoever listens to `explained`, else over the form."""
        root = self.root()
        if root.receivers(SIGNAL("explained(PyObject)")):
            root.explained.emit(row)
        else:
            QWhatsThis.showText(row.mapToGlobal(QPoint(row.width() // 2, row.height())), row.whatsThis(), row)

    @Slot(object, object)
    def _show_menu(self, row: FieldRow, where: QPoint) -> None:
        menu = field_menu(self, row)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(where)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.root()._show_callout()
        elif isinstance(event, QContextMenuEvent):
            name = watched.property("field")
            line = watched if isinstance(watched, QLineEdit) else watched.findChild(QLineEdit)
            standard = line.createStandardContextMenu() if isinstance(line, QLineEdit) else None
            if standard is not None:
                standard.addSeparator()
            menu = field_menu(self, self.rows[name], standard)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(event.globalPos())
            return True
        return False

    @Slot(object, bool)
    def _on_hovered(self, row: FieldRow, entered: bool) -> None:
        self.hovered_row = row if entered else None if self.hovered_row is row else self.hovered_row
        self.root()._show_callout()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "callout"):
            self._unplaced.setStyleSheet(f"color: {colours_of(self).error};")

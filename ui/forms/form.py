"""A form made from a config's own description. See `ConfigForm`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, Signal, Slot
from PySide6.QtGui import QContextMenuEvent, QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QMenu, QScrollArea, QVBoxLayout, QWhatsThis, QWidget

from ui.forms.callout import Callout
from ui.forms.choice import ChoiceEditor
from ui.forms.editors import Editor, make_editor
from ui.forms.help import field_html, plain_value
from ui.forms.row import INDENT, FieldRow
from ui.theme import GRID
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
    ) -> None:
        super().__init__(parent)
        self.config_type = config_type
        self._nested, self._compact, self._depth = _depth > 0, compact, _depth
        self._value = config_type() if value is None else value
        self._baseline: Any = None
        self._problems: list[Problem] = []
        self._refused: list[Problem] = []
        self._states: dict[str, tuple[bool, str]] = {}
        self._hovered: FieldRow | None = None
        self._edited: FieldRow | None = None
        self.rows: dict[str, FieldRow] = {}
        self.sections: dict[str, CollapsibleSection] = {}
        self._inner: dict[str, CollapsibleSection] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(GRID // 2 if compact else GRID if _depth else 2 * GRID)
        self.search = QLineEdit(self, placeholderText="Find a setting", clearButtonEnabled=True)
        self.search.setAccessibleName("Find a setting")
        self.search.textChanged.connect(self._filter)
        self.search.setVisible(searchable)
        if searchable:
            self._layout.addWidget(self.search)
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
        editor: Editor = ChoiceEditor(info, self._make_nested) if info.is_choice else make_editor(info)
        editor.set_value(getattr(self._value, info.name))
        row = FieldRow(info.name, editor, compact=self._compact, depth=self._depth)
        editor.edited.connect(self._on_edited)
        row.menu_wanted.connect(self._show_menu)
        row.hovered.connect(self._on_hovered)
        if isinstance(editor, ChoiceEditor):
            editor.swapped.connect(self._on_swapped)
        for stop in [editor.combo] if isinstance(editor, ChoiceEditor) else editor.stops():
            stop.installEventFilter(self)
            stop.setProperty("field", info.name)
        self.rows[info.name] = row
        return row

    def _make_nested(self, config_type: type, value: Any) -> ConfigForm:
        form = ConfigForm(config_type, value, compact=self._compact, _depth=self._depth + 1)
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
        self._edited = None
        self._refused = []
        self._show_all()
        self._check()

    def set_baseline(self, value: Any) -> None:
        """Mark as changed what differs from `value`, and reset to it; None: the defaults of the config."""
        self._baseline = value
        self._show_rows()

    def _default(self, info: FieldInfo) -> Any:
        return info.default if self._baseline is None else getattr(self._baseline, info.name)

    def commit(self) -> None:
        for row in self.rows.values():
            row.editor.commit()

    def reset(self, name: str | None = None) -> None:
        """Set one field, or all that are shown, to the default; emits `changed` once if anything was different."""
        defaults = {i.name: d for i in describe(self.config_type) if (d := self._default(i)) is not dataclasses.MISSING}
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
        self._edited = row
        if row.editor.error or not self._take({row.name: row.editor.value()}):
            self._check()

    @Slot()
    def _on_swapped(self) -> None:
        if hasattr(self, "callout"):
            self.root().follow_swap()

    def follow_swap(self) -> None:
        """After other options were put in place: tab order and filter apply to them too."""
        self._order_tabs()
        self._filter(self.search.text())
        self._show_states()

    # ---- problems ------------------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the whole config; empty when it is usable."""
        self.commit()
        return list(self._problems)

    def problem_text(self, name: str) -> str:
        """What is shown at a field (dotted for options of a kind); empty when nothing is wrong."""
        row = self._row(name)
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
        unplaced = self._place(problems)
        self._unplaced.setText("\n".join(str(p) for p in unplaced))
        self._unplaced.setStyleSheet(f"color: {colours_of(self).error};")
        self._unplaced.setVisible(bool(unplaced))
        self._show_rows()
        self._show_callout()
        if news:
            self.problems_changed.emit(list(problems))

    def _place(self, problems: list[Problem]) -> list[Problem]:
        """Hand each problem to its row or to the options it concerns; returns those that have no place here."""
        nested: dict[str, list[Problem]] = {n: [] for n, r in self.rows.items() if isinstance(r.editor, ChoiceEditor)}
        unplaced = []
        known = {i.name for i in describe(self.config_type)}
        for problem in problems:
            name, _, option = problem.field.partition(".")
            if name not in self.rows:
                if name not in known:  # a described field that is left out here is shown by whoever left it out
                    unplaced.append(problem)
            elif option and name in nested:
                nested[name].append(dataclasses.replace(problem, field=option))
            else:
                row = self.rows[name]
                row.problem = f"{row.problem}\n{problem}".strip()
        for name, theirs in nested.items():
            editor = self.rows[name].editor
            form = editor.form if isinstance(editor, ChoiceEditor) else None
            if form is not None:
                form._set_problems_from_parent(theirs)
            elif theirs:
                self.rows[name].problem = "\n".join(map(str, theirs))
        return unplaced

    def _set_problems_from_parent(self, problems: list[Problem]) -> None:
        for row in self.rows.values():
            row.problem = ""
        self._problems = problems
        self._place(problems)
        self._show_rows()

    def _show_rows(self) -> None:
        """Marks, tooltips and names of every row, and the counts in the headers."""
        for name, row in self.rows.items():
            value = getattr(self._value, name)
            default = self._default(row.info)
            row.set_problem(row.problem, default is not dataclasses.MISSING and value != default)
            html = field_html(row.info, value, problem=row.problem, reason=row.reason)
            row.setToolTip(html)
            row.setWhatsThis(html)
            described = " ".join(t for t in (row.problem, row.reason, row.info.help) if t)
            row.editor.describe(row.info.label, described)
        for section in (*self.sections.values(), *self._inner.values()):
            members = [r for r in self.rows.values() if section.isAncestorOf(r)]
            wrong = sum(bool(r.problem) or r.has_nested_problem() for r in members)
            changed = sum(r.mark.kind == "changed" for r in members)
            hidden = f"{changed} changed" if changed and not section.expanded else ""
            section.set_badge(f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else hidden, problem=bool(wrong))

    def _show_callout(self) -> None:
        """Under the focused field if something is wrong with it, else the one under the mouse, else the one edited last."""
        root = self.root()
        candidates = [root._focused_row(), root._hovered_row(), None if root._focused_row() else root._last_edited()]
        row = next((r for r in candidates if r is not None and r.problem and r.isVisible()), None)
        if row is None:
            root.callout.hide()
            return
        line = row.line_rect().toRect()
        line.moveTopLeft(row.mapTo(root, line.topLeft()))
        root.callout.show_at(line, row.problem)

    def _last_edited(self) -> FieldRow | None:
        for form in self._forms():
            if form._edited is not None and form._edited.problem:
                return form._edited
        return None

    def _hovered_row(self) -> FieldRow | None:
        return next((f._hovered for f in reversed(list(self._forms())) if f._hovered is not None and f._hovered.problem), None)

    def _focused_row(self) -> FieldRow | None:
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

    def _forms(self) -> Iterator[ConfigForm]:
        """This form and those of the kinds now chosen."""
        yield self
        for row in self.rows.values():
            if isinstance(row.editor, ChoiceEditor) and row.editor.form is not None:
                yield from row.editor.form._forms()

    def _row(self, name: str) -> FieldRow | None:
        first, _, rest = name.partition(".")
        row = self.rows.get(first)
        if row is None or not rest:
            return row
        form = row.editor.form if isinstance(row.editor, ChoiceEditor) else None
        return form._row(rest) if form is not None else None

    def editor(self, name: str) -> Editor:
        """The editor of a field; dotted for the options of the kind now chosen ("position.base")."""
        row = self._row(name)
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
            row = self._row(name)
            if row is not None:
                row.set_enabled(enabled, reason)

    def focus_field(self, name: str) -> None:
        """Open the field's section, bring it into view and give it the focus."""
        row = self._row(name)
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
            for section in (*self.sections.values(), *self._inner.values()):
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
    def _filter(self, text: str) -> bool:
        """Show the rows that speak of `text` in label, key, help or options; all when empty. True when any is left."""
        words = text.lower().split()
        shown: set[FieldRow] = set()
        for row in self.rows.values():
            fits = all(w in _searchable(row.info) for w in words)
            form = row.editor.form if isinstance(row.editor, ChoiceEditor) else None
            inside = form._filter("" if fits else text) if form is not None else False
            row.setVisible(fits or inside)
            if fits or inside:
                shown.add(row)
        for section in (*self.sections.values(), *self._inner.values()):
            members = [r for r in self.rows.values() if section.isAncestorOf(r)]
            section.setVisible(any(r in shown for r in members))
            section.set_forced(bool(words) and any(r in shown for r in members))
        return bool(shown)

    # ---- help and menus ------------------------------------------------------------------------------------------

    def help_for_focused(self) -> str:
        """The help of the field with the focus, as rich text; empty when none has it."""
        row = self._focused_row()
        return row.whatsThis() if row is not None else ""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        row = self._focused_row() if event.key() == Qt.Key.Key_F1 else None
        if row is None:
            super().keyPressEvent(event)
            return
        QWhatsThis.showText(row.mapToGlobal(QPoint(row.width() // 2, row.height())), row.whatsThis(), row)

    def field_menu(self, row: FieldRow, menu: QMenu | None = None) -> QMenu:
        """What can be done with a field, added to `menu` (the text menu of its line) or on its own."""
        menu = menu or QMenu(row)
        info = row.info
        default = self._default(info)
        if default is not dataclasses.MISSING:
            word = "default" if self._baseline is None else "the original"
            reset = menu.addAction(f"Reset to {word} ({plain_value(info, default)})")
            reset.setEnabled(row.mark.kind != "" and row.editor.isEnabled())
            reset.triggered.connect(lambda _checked=False: self.reset(row.name))
        menu.addAction("Reset all settings here").triggered.connect(lambda _checked=False: self.root().reset())
        key = info.key or info.name
        menu.addAction(f"Copy key “{key}”").triggered.connect(lambda _checked=False: QGuiApplication.clipboard().setText(key))
        return menu

    @Slot(object, object)
    def _show_menu(self, row: FieldRow, where: QPoint) -> None:
        menu = self.field_menu(row)
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
            menu = self.field_menu(self.rows[name], standard)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(event.globalPos())
            return True
        return False

    @Slot(object, bool)
    def _on_hovered(self, row: FieldRow, entered: bool) -> None:
        self._hovered = row if entered else None if self._hovered is row else self._hovered
        self.root()._show_callout()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "callout"):
            self._unplaced.setStyleSheet(f"color: {colours_of(self).error};")


def _searchable(info: FieldInfo) -> str:
    """Everything a person may look a field up by, in lower case."""
    options = " ".join(f"{o.label} {o.name}" for o in info.pick_options())
    return f"{info.label} {info.key} {info.name} {info.help} {info.group} {options}".lower()

"""The settings of training data."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import ConfigError
from workbench.core.fields import Option, Problem, field_problems, pick, setting
from workbench.data.shapes import SHAPES, role_map

TRAIN_ON = (
    Option("all", "All replies", "Every reply of a conversation is learnt."),
    Option("last", "Last reply", "Only the last reply is learnt; the ones before it are context."),
)
OVER_LONG = (
    Option("split", "Split", "Text goes on in the next sequence; a conversation keeps its beginning."),
    Option("truncate", "Cut", "The beginning is kept, the rest is left out."),
    Option("drop", "Leave out", "Examples that are too long are left out as a whole."),
)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to learn from. `problems()` lists every broken rule; files are looked at when they are read."""

    sources: tuple[str, ...] = setting(
        ("sample-chat",), label="Data", group="Data",
        help="Files, folders or built-in data sets: sample-chat, stdlib-docstrings.",
    )  # fmt: skip
    format: str | None = pick(
        SHAPES, None, label="Row format", group="Data", none_label="recognised row by row", advanced=True,
        help="How a row is read; left alone, each row is recognised by its keys.",
    )  # fmt: skip
    roles: tuple[str, ...] = setting(
        (), label="Roles", group="Data", advanced=True,
        help="Names of speakers or columns mapped to system, user, assistant or tool, such as ticket=user, reply=assistant.",
    )  # fmt: skip
    train_on: str = pick(
        TRAIN_ON, "all", label="Learn", group="Data", help="Which replies of a conversation are learnt; questions never are."
    )
    over_long: str = pick(
        OVER_LONG, "split", label="Too long", group="Data", help="What happens to examples longer than the longest sequence."
    )  # fmt: skip
    validation_fraction: float = setting(
        0.05, label="Held out", group="Data", minimum=0.0, maximum=0.5,
        help="Share of the examples that is never trained on, to measure the loss on; 0 holds none out.",
    )  # fmt: skip
    max_rows: int | None = setting(
        None, label="Rows at most", unit="rows", group="Data", minimum=1, maximum=100_000_000, log=True, none_label="all", advanced=True,
        help="Stop reading after this many usable rows.",
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if not self.sources:
            found.append(Problem("sources", "No data are chosen.", "Choose a file, a folder, or a built-in data set."))
        try:
            role_map(self.roles)
        except ConfigError as error:
            found.append(Problem("roles", error.message, error.hint))
        return found

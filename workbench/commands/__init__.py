"""The command line: one file per verb, flags generated from the same fields as the window's forms."""

from workbench.commands import doctor as _doctor  # noqa: F401, I001 - the order of the help page
from workbench.commands import models as _models  # noqa: F401
from workbench.commands import inspect as _inspect  # noqa: F401
from workbench.commands import generate as _generate  # noqa: F401
from workbench.commands import score as _score  # noqa: F401
from workbench.commands import data as _data  # noqa: F401
from workbench.commands import finetune as _finetune  # noqa: F401
from workbench.commands import pretrain as _pretrain  # noqa: F401
from workbench.commands import merge as _merge  # noqa: F401
from workbench.commands import convert as _convert  # noqa: F401
from workbench.commands import export as _export  # noqa: F401
from workbench.commands import study as _study  # noqa: F401
from workbench.commands import runs as _runs  # noqa: F401
from workbench.commands import bench as _bench  # noqa: F401
from workbench.commands.base import VERBS, Verb

__all__ = ["VERBS", "Verb"]

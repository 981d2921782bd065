"""Models and adapters known to this machine: what is on disk, what can be fetched, what was opened last.

Imports no torch, so the window and `make` can ask before the engine is loaded.

    python -m workbench.library fetch starter
"""

from workbench.library.catalogue import CATALOGUE, CatalogueModel
from workbench.library.disk import AdapterEntry, ModelEntry, model_format, model_label
from workbench.library.fit import Fit, fit_of_parameters, fit_of_size
from workbench.library.library import RECENT_LIMIT, Library, default_home

__all__ = [
    "CATALOGUE", "RECENT_LIMIT", "AdapterEntry", "CatalogueModel", "Fit", "Library", "ModelEntry", "default_home", "fit_of_parameters",
    "fit_of_size", "model_format", "model_label",
]  # fmt: skip

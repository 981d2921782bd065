"""The Models panel: what is on this machine, what the hub has, and the way from there to here."""

from __future__ import annotations

from ui.hub.view import ModelsView
from ui.panels import PANELS, PanelPlace


@PANELS.register(
    "models",
    label="Models",
    help="The models on this machine and on the Hugging Face hub: load, download, remove.",
    place=PanelPlace("centre", order=60, icon="download"),
)
class ModelsPanel(ModelsView):
    """The list is the panel."""

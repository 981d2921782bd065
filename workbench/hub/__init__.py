"""The Hugging Face hub: finding models and bringing them here. No torch, no weights, nothing that runs.

    page = yield from Hub().look("owner/repo", control)                 # what is there, and what of it can be opened
    path = yield from download(hub, "owner/repo:file.gguf", places, control)

`HF_ENDPOINT`, `HF_TOKEN`, a token saved by `hf auth login`, `HF_HUB_OFFLINE` and proxies hold as `huggingface_hub` reads them.
"""

from workbench.hub.client import Hub
from workbench.hub.describe import HubFile, HubModel, HubPage, Offer, parse_spec
from workbench.hub.fetching import RECORD, Places, Unfinished, discard, download, unfinished
from workbench.hub.progress import Transfer

__all__ = [
    "RECORD", "Hub", "HubFile", "HubModel", "HubPage", "Offer", "Places", "Transfer", "Unfinished", "discard", "download", "parse_spec",
    "unfinished",
]  # fmt: skip

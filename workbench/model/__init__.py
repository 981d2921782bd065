"""One decoder-only transformer, built from a config and nothing else."""

from workbench.model.accounting import Accounting, account
from workbench.model.build import build_model
from workbench.model.config import ModelConfig
from workbench.model.presets import PRESETS
from workbench.model.transformer import Transformer

__all__ = ["PRESETS", "Accounting", "ModelConfig", "Transformer", "account", "build_model"]

"""Where the norms sit and how a branch joins the residual stream. A new kind is one file here and one import below."""

from workbench.parts.residuals import deepnorm as _deepnorm  # noqa: F401
from workbench.parts.residuals import double as _double  # noqa: F401
from workbench.parts.residuals import parallel as _parallel  # noqa: F401
from workbench.parts.residuals import post as _post  # noqa: F401
from workbench.parts.residuals import pre as _pre  # noqa: F401
from workbench.parts.residuals import reordered as _reordered  # noqa: F401
from workbench.parts.residuals.base import RESIDUALS, Residual

__all__ = ["RESIDUALS", "Residual"]

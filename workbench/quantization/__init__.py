"""Weights in few bits: schemes, which modules of a model take one, and what it costs. A new scheme is one file here and one
import below."""

# Lists show the kinds in this order:
# isort: off
from workbench.quantization import int8 as _int8  # noqa: F401
from workbench.quantization import int8_dynamic as _int8_dynamic  # noqa: F401
from workbench.quantization import int4 as _int4  # noqa: F401
from workbench.quantization import llm_int8 as _llm_int8  # noqa: F401

# isort: on
from workbench.quantization.apply import dequantized, is_quantized, quantize, quantize_steps, twin
from workbench.quantization.base import SCHEMES, Scheme
from workbench.quantization.config import SKIPPED, QuantizationConfig
from workbench.quantization.plan import ModulePlan, QuantizationPlan, plan
from workbench.quantization.report import ModuleReport, QuantizationReport, report

__all__ = [
    "SCHEMES",
    "SKIPPED",
    "ModulePlan",
    "ModuleReport",
    "QuantizationConfig",
    "QuantizationPlan",
    "QuantizationReport",
    "Scheme",
    "dequantized",
    "is_quantized",
    "plan",
    "quantize",
    "quantize_steps",
    "report",
    "twin",
]

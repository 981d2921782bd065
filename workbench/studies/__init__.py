"""Studies: reproducible experiments. A new one is one file here and one import below.

study = STUDIES.choose("norm-int8", {"tokens": 512}).make()
result = yield from study.run(StudyContext(loaded, folder, compute), control)
write(result, folder)
"""

from workbench.studies import kv_cache as _kv_cache  # noqa: F401
from workbench.studies import norm_int8 as _norm_int8  # noqa: F401
from workbench.studies.base import STUDIES, Bar, Column, Figure, Study, StudyContext, StudyResult, Table
from workbench.studies.files import write

__all__ = ["STUDIES", "Bar", "Column", "Figure", "Study", "StudyContext", "StudyResult", "Table", "write"]

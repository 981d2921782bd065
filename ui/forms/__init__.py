"""Forms made from configs: a dataclass type in, widgets out.

form = ConfigForm(LoraConfig)
form.changed.connect(on_config)      # a new frozen config, only after a person's edit
"""

from ui.forms.form import ConfigForm

__all__ = ["ConfigForm"]

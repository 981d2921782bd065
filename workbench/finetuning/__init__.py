"""Fine-tuning a loaded model: from data to adapter (`run`), with questions asked again and again on the way (`samples`).

events = finetune(loaded, summary, tokenizer, request, runs_folder, control)
"""

from workbench.finetuning.run import finetune, prepare_data

__all__ = ["finetune", "prepare_data"]

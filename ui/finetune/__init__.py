"""Parts of the fine-tune panel: model, data with their pre-flight check, method and numbers, the run, and its adapter."""

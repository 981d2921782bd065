"""Training from scratch: from text to a model that writes, alone or as a pair that differs in some toggles.

run folder/   run.json, metrics.jsonl (with the samples), checkpoint-<step>/    as of any run
              tokenizer/     tokenizer.json of a BPE that was learnt from the data
              model/         the finished model: a checkpoint of our own, with its tokenizer
pair folder/  pair.json, A/, B/                                                 two such runs
"""

from workbench.pretraining.look import PretrainCheck, preflight
from workbench.pretraining.pair import pretrain_pair
from workbench.pretraining.run import pretrain, request_of

__all__ = ["PretrainCheck", "preflight", "pretrain", "pretrain_pair", "request_of"]

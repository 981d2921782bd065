"""Text from a model: sampling, streaming replies, chat with prefix reuse, and scoring."""

from workbench.generation.chat import CacheState, Reply, prompt_ids, reply
from workbench.generation.config import GenerationConfig
from workbench.generation.conversation import Conversation, Turn
from workbench.generation.events import GenerationResult, StopReason, TokenEvent
from workbench.generation.generate import context_limit, generate
from workbench.generation.score import ScoreResult, score

__all__ = [
    "CacheState",
    "Conversation",
    "GenerationConfig",
    "GenerationResult",
    "Reply",
    "ScoreResult",
    "StopReason",
    "TokenEvent",
    "Turn",
    "context_limit",
    "generate",
    "prompt_ids",
    "reply",
    "score",
]

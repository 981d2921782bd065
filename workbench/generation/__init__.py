"""Text from a model: sampling, streaming replies, chat with prefix reuse, and scoring."""

from workbench.generation.chat import Reply, reply
from workbench.generation.config import GenerationConfig
from workbench.generation.conversation import Conversation, Turn
from workbench.generation.events import GenerationResult, StopReason, TokenEvent
from workbench.generation.generate import generate
from workbench.generation.room import CacheState, Room, context_limit
from workbench.generation.score import ScoreResult, score
from workbench.generation.shorten import prompt_ids

__all__ = [
    "CacheState",
    "Conversation",
    "GenerationConfig",
    "GenerationResult",
    "Reply",
    "Room",
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

"""`generate`: continue a text, or answer a chat message, token by token."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.core.errors import ConfigError
from workbench.core.events import Event
from workbench.core.flags import add_flags, from_flags
from workbench.core.format import bytes_text

if TYPE_CHECKING:
    from workbench.caches import CacheConfig


def _arguments(parser: argparse.ArgumentParser) -> None:
    from workbench.caches import KV_CODECS
    from workbench.generation import GenerationConfig

    model_argument(parser)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", metavar="TEXT", help="Continue this text.")
    asked.add_argument("--chat", metavar="TEXT", help="Answer this message, through the model's chat template.")
    parser.add_argument("--system", metavar="TEXT", default="", help="System prompt, with --chat.")
    kinds = "|".join(("none", *KV_CODECS.names()))
    text = "How keys and values are kept; none computes everything again for each token."
    parser.add_argument("--cache", metavar=kinds, default="exact", help=text)
    parser.add_argument("--context", metavar="TOKENS", type=int, help="Tokens the cache holds (default: the model's context).")
    adapter_flag(parser)
    compute_flags(parser)
    add_flags(parser, GenerationConfig)


@verb("generate", "Continue a text or answer a message, streaming.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.generation import Conversation, GenerationConfig
    from workbench.requests import ChatRequest, PromptRequest

    generation = from_flags(GenerationConfig, args)
    cache = cache_config(args.cache, args.context)
    session = open_model(args, console)
    show = _Show(console)
    if args.chat is not None:
        conversation = Conversation(args.system).add("user", args.chat)
        chat = ChatRequest(conversation=conversation, generation=generation, cache=cache)
        result = console.follow(session.reply(chat, console.control), show).result
    else:
        prompt = PromptRequest(prompt=args.prompt, generation=generation, cache=cache)
        result = console.follow(session.complete(prompt, console.control), show)
    first = "" if result.first_token_ms is None else f", first token after {result.first_token_ms:.0f} ms"
    console.say("")
    speed = f"{result.new_tokens} tokens, {result.tokens_per_second:.1f} tokens/s{first}"
    console.result(result.to_json(), f"[{speed}, cache {bytes_text(result.cache_bytes)}, ended by: {result.stop_reason}]")
    return STOPPED if result.stop_reason == "stopped" else 0


def cache_config(codec: str, capacity: int | None) -> CacheConfig:
    """The cache that `--cache` and `--context` ask for."""
    from workbench.caches import KV_CODECS, CacheConfig

    if codec == "none":
        return CacheConfig(use_cache=False, capacity=capacity)
    if codec not in KV_CODECS:
        raise ConfigError(f"There is no cache {codec!r}.", hint=f"Choose one of: none, {', '.join(KV_CODECS.names())}.")
    return CacheConfig(codec=KV_CODECS.choose(codec), value_codec=KV_CODECS.choose(codec), capacity=capacity)


class _Show:
    """Writes each token's text as it comes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        self.console.say(getattr(event, "text", ""), end="")

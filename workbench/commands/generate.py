"""`generate`: continue a text, or answer a chat message, token by token."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from workbench.commands.against import against_flag, against_settings, answer_both
from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.cache_flags import cache_config, cache_flags
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.commands.quantize_flags import quantize_flags
from workbench.core.errors import ConfigError
from workbench.core.events import Event
from workbench.core.flags import add_flags, from_flags
from workbench.core.format import bytes_text

if TYPE_CHECKING:
    from workbench.generation import Reply


def _arguments(parser: argparse.ArgumentParser) -> None:
    from workbench.generation import GenerationConfig

    model_argument(parser)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", metavar="TEXT", help="Continue this text.")
    asked.add_argument("--chat", metavar="TEXT", help="Answer this message, through the model's chat template.")
    parser.add_argument("--system", metavar="TEXT", default="", help="System prompt, with --chat.")
    cache_flags(parser, "exact")
    adapter_flag(parser)
    quantize_flags(parser)
    against_flag(parser)
    compute_flags(parser)
    add_flags(parser, GenerationConfig)


@verb("generate", "Continue a text or answer a message, streaming.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.generation import Conversation, GenerationConfig
    from workbench.requests import ChatRequest, PromptRequest, SideSettings

    generation = from_flags(GenerationConfig, args)
    cache = cache_config(args)
    if args.against is not None and args.chat is None:
        raise ConfigError("--against compares replies to a message.", hint="Give the message with --chat in place of --prompt.")
    other = None if args.against is None else against_settings(args.against)
    session = open_model(args, console)
    show = _Show(console)
    if args.chat is not None:
        conversation = Conversation(args.system).add("user", args.chat)
        if other is not None:
            own = SideSettings(cache=cache, quantization=session.quantization_config)
            return answer_both(session, conversation, generation, own, other, console)
        chat = ChatRequest(conversation=conversation, generation=generation, cache=cache)
        answer: Reply = console.follow(session.reply(chat, console.control), show)
        result, data = answer.result, answer.to_json()
    else:
        prompt = PromptRequest(prompt=args.prompt, generation=generation, cache=cache)
        result = console.follow(session.complete(prompt, console.control), show)
        data = result.to_json()
    first = "" if result.first_token_ms is None else f", first token after {result.first_token_ms:.0f} ms"
    console.say("")
    speed = f"{result.new_tokens} tokens, {result.tokens_per_second:.1f} tokens/s{first}"
    gone = f", {result.dropped_tokens} tokens dropped" if result.dropped_tokens else ""
    console.result(data, f"[{speed}, cache {bytes_text(result.cache_bytes)}{gone}, ended by: {result.stop_reason}]")
    return STOPPED if result.stop_reason == "stopped" else 0


class _Show:
    """Writes each token's text as it comes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        self.console.say(getattr(event, "text", ""), end="")

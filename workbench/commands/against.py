"""`--against`: a second side that answers the same message with other settings."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from workbench.commands.base import STOPPED, Console, table
from workbench.commands.cache_flags import cache_config, cache_flags
from workbench.commands.quantize_flags import quantization_config, quantize_flags
from workbench.core.errors import ConfigError
from workbench.core.format import bytes_text

if TYPE_CHECKING:
    from workbench.generation import Conversation, GenerationConfig
    from workbench.pairing import PairReply
    from workbench.requests import SideSettings
    from workbench.session import Session


def against_flag(parser: argparse.ArgumentParser) -> None:
    text = (
        "With --chat: answer on a second side too, a token of each in turn, and say where they part. FLAGS in quotation marks are that "
        'side\'s own, of --cache --cache-set --context --quantize --quantize-skip --quantize-set --no-adapter: "--cache balanced".'
    )
    parser.add_argument("--against", metavar="FLAGS", help=text)


def against_settings(flags: str) -> SideSettings:
    """The settings of the second side. Raises `ConfigError`."""
    from workbench.requests import SideSettings

    parser = _Parser(prog="--against", add_help=False, allow_abbrev=False)
    cache_flags(parser, "exact")
    quantize_flags(parser)
    parser.add_argument("--no-adapter", action="store_true")
    try:
        args = parser.parse_args(shlex.split(flags))
    except ValueError as error:  # a quotation mark that is not closed
        raise ConfigError(f"--against {flags!r} cannot be read: {error}.", hint='Write it as --against "--cache balanced".') from error
    return SideSettings(cache=cache_config(args), quantization=quantization_config(args), adapter=not args.no_adapter)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError(f"--against: {message}.", hint='It takes the flags of a side, such as --against "--cache balanced".')


def answer_both(
    session: Session, conversation: Conversation, generation: GenerationConfig, a: SideSettings, b: SideSettings, console: Console
) -> int:
    """Answer on both sides and write what came out; the exit status. Raises what the second side, or the first, failed with."""
    from workbench.requests import PairChatRequest

    request = PairChatRequest(conversation_a=conversation, conversation_b=conversation, generation=generation, a=a, b=b)
    found = console.follow(session.reply_pair(request, console.control))
    if found is None:
        return STOPPED
    console.result(found.to_json(), _words(found))
    if found.failures:
        raise next(iter(found.failures.values()))
    stopped = any(one is None or one.result.stop_reason == "stopped" for one in (found.a, found.b))
    return STOPPED if stopped else 0


def _words(found: PairReply) -> str:
    sides = {side: reply for side, reply in (("A", found.a), ("B", found.b)) if reply is not None}
    texts = [f"{side}: {reply.text}\n" for side, reply in sides.items()]
    rows = []
    for side, reply in sides.items():
        result, held = reply.result, found.cache_tokens.get(side)
        rows.append(
            {
                "": side,
                "tokens": result.new_tokens,
                "tokens/s": f"{result.tokens_per_second:.1f}",
                "first token": "" if result.first_token_ms is None else f"{result.first_token_ms:.0f} ms",
                "cache": bytes_text(result.cache_bytes) if held else "off",
                "per token": bytes_text(result.cache_bytes / held) if held else "",
                "ended by": result.stop_reason,
            }
        )
    if found.first_difference is None:
        near = "" if found.logprob_difference is None else f"; their log-probabilities differ by {found.logprob_difference:.2g} at most"
        verdict = f"Identical: {found.compared:,} tokens{near}."
    else:
        verdict = f"First different token: no. {found.first_difference + 1:,}."
    return "\n".join([*texts, table(rows), "", verdict])

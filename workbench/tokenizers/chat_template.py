"""Conversations to text and ids by the model's own template; which ids a fine-tune trains.

Special tokens are recognised only in text that the template wrote: a message that contains `<|im_end|>` stays a message.
Replies are encoded on their own, from where the generation prompt ends: training sees the ids that generation will see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from workbench.core.errors import ModelError
from workbench.tokenizers.base import END_OF_TURN, Span, Tokenizer, end_of_text_id
from workbench.tokenizers.locate import Located, locate
from workbench.tokenizers.sandbox import ConversationError, render

TrainOn = Literal["all", "last"]
Reply = tuple[int, int, bool]
"""Start and end in the text, and whether a special token closes it."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + end_of_turn + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The template for models that bring none. `end_of_turn` is `<|im_end|>` where the vocabulary has it, else its end token."""


@dataclass(frozen=True)
class Message:
    """One turn: `role` is "system", "user", "assistant" or "tool"."""

    role: str
    content: str


@dataclass(frozen=True)
class EncodedChat:
    """A conversation as ids. `trained[i]` says whether id i is a target of fine-tuning. `ends` is true when every trained
    reply is closed by a special token; `notes` are sentences about what could not be done exactly."""

    ids: list[int]
    trained: list[bool]
    text: str
    ends: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Habits:
    """What a template writes around replies: the generation prompt, and the text right after a last reply."""

    prompt: str
    tail: str


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template with the special tokens it may name. Rendering is sandboxed and bounded."""

    source: str
    bos: str = ""
    eos: str = ""
    end_of_turn: str = "<|im_end|>"
    name: str = "model"

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as the model was trained to read it. Raises `ModelError` with the template's own complaint."""
        variables: dict[str, Any] = {
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "end_of_turn": self.end_of_turn,
            "tools": None,
            "documents": None,
        }
        return render(self.source, variables)

    def encode(self, tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Ids of the rendered conversation; special tokens only where the template wrote them."""
        return self.encode_chat(tokenizer, messages, add_generation_prompt=add_generation_prompt).ids

    def encode_with_mask(
        self, tokenizer: Tokenizer, messages: Sequence[Message], train_on: TrainOn = "all"
    ) -> tuple[list[int], list[bool]]:
        """(ids, trained): trained are the replies and their end-of-turn tokens; of all replies, or of the last one only."""
        encoded = self.encode_chat(tokenizer, messages, train_on=train_on)
        return encoded.ids, encoded.trained

    def encode_chat(
        self, tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False, train_on: TrainOn = "all"
    ) -> EncodedChat:
        """Ids, mask, text and what is worth knowing about them. Raises `ModelError` when the template fails."""
        messages, located, notes = self._located(tokenizer, messages, add_generation_prompt)
        if located.exact:
            replies = self._replies(tokenizer, messages, located)
            written = _complement([s for s in located.spans if s], len(located.text))
        else:
            replies = self._replies_by_prefix(messages, located.text, strict=not add_generation_prompt)
            written = [(0, len(located.text))]
        cuts = sorted({edge for start, end, _ in replies for edge in (start, end)})
        wanted = replies[-1:] if train_on == "last" else replies
        ids: list[int] = []
        trained: list[bool] = []
        for start, piece in zip([0, *cuts], tokenizer.encode_pieces(located.text, written, cuts), strict=True):
            ids += piece
            trained += [any(a <= start < b for a, b, _ in wanted)] * len(piece)
        return EncodedChat(ids, trained, located.text, all(closed for _, _, closed in wanted), tuple(notes))

    def stop_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids that end a reply: the tokenizer's, and what this template writes after one."""
        closing = self._closing(tokenizer)
        own = tokenizer.encode(closing, special=True)[-1:] if closing else []
        return tuple(dict.fromkeys([*own, *tokenizer.eos_ids]))

    # ---- where things are -----------------------------------------------------------------------------------------

    def _located(
        self, tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool
    ) -> tuple[Sequence[Message], Located, list[str]]:
        """The messages as rendered (see the last branch), their places, and notes."""

        def with_contents(contents: Sequence[str]) -> str:
            return self.render([Message(m.role, c) for m, c in zip(messages, contents, strict=True)], add_generation_prompt)

        located = locate(with_contents, [m.content for m in messages])
        if located.exact:
            return messages, located, []
        if not any(name in m.content for m in messages for name in tokenizer.special):
            return messages, located, ["The chat template rearranges messages; where replies lie was found by comparing renderings."]
        # the template's special tokens cannot be told from the messages' own: take those apart
        broken = [Message(m.role, _without_special(m.content, tokenizer)) for m in messages]
        note = "The chat template rearranges messages, so special tokens inside a message were broken up with an invisible space."
        return broken, Located(self.render(broken, add_generation_prompt), located.spans, exact=False), [note]

    def _replies(self, tokenizer: Tokenizer, messages: Sequence[Message], located: Located) -> list[Reply]:
        """The replies with all that generation has to write: from the end of the generation prompt to the closing token."""
        order = sorted((span, i) for i, span in enumerate(located.spans) if span)
        text, prompt, closing = located.text, self._habits().prompt, self._closing(tokenizer)
        replies = []
        for position, ((first, last), i) in enumerate(order):
            if messages[i].role != "assistant":
                continue
            before = order[position - 1][0][1] if position else 0
            after = order[position + 1][0][0] if position + 1 < len(order) else len(text)
            header = text[before:first]
            at = header.rfind(prompt) if prompt else -1
            start = before + (at + len(prompt) if at >= 0 else len(header.rstrip(" ")))
            end = _end_of(closing, text[last:after])
            replies.append((start, last + (end or 0), end is not None))
        return replies

    def _replies_by_prefix(self, messages: Sequence[Message], text: str, strict: bool) -> list[Reply]:
        """Replies as what each adds to the rendering of the messages before it; none when that fails and is not `strict`."""
        replies = []
        for i, message in enumerate(messages):
            if message.role != "assistant" or not message.content.strip():
                continue
            start, end = self.render(messages[:i], True), self.render(messages[: i + 1], False)
            if text.startswith(start) and text.startswith(end) and len(start) < len(end):
                replies.append((len(start), len(end), True))
            elif strict:
                raise ConversationError(
                    "The chat template rearranges messages so that the replies cannot be found in its text.",
                    hint="Fine-tune with the built-in ChatML template, or with a template that writes the messages in order.",
                )
            else:
                return []
        return replies

    def _habits(self) -> _Habits:
        return _habits(self)

    def _closing(self, tokenizer: Tokenizer) -> str:
        """The text from the end of a reply to the end of its closing special token; "" when the template writes none."""
        tail = self._habits().tail
        names = [n for n in tokenizer.special if n in tail]
        if not names:
            return ""
        first = min(names, key=lambda n: (tail.index(n), -len(n)))
        lead = tail[: tail.index(first)]
        opens_turn = first in self._habits().prompt and tokenizer.special[first] not in tokenizer.eos_ids
        return "" if lead.strip() or opens_turn else lead + first


@lru_cache(maxsize=64)
def _habits(template: ChatTemplate) -> _Habits:
    question, answer = "qzquestionzq", "qzanswerzq"
    prompt = tail = ""
    try:
        asked = [Message("user", question)]
        without, with_prompt = template.render(asked, False), template.render(asked, True)
        prompt = with_prompt[len(without) :] if with_prompt.startswith(without) else ""
        told = template.render([*asked, Message("assistant", answer)], False)
        tail = told.partition(answer)[2]
    except ModelError:
        pass  # a template that refuses so plain a conversation: nothing can be assumed about it
    return _Habits(prompt, tail)


def _end_of(closing: str, rest: str) -> int | None:
    """Where `closing` ends at the beginning of `rest`; whitespace before it may differ. None when it is not there."""
    if closing and rest.startswith(closing):
        return len(closing)
    gap, core = len(rest) - len(rest.lstrip()), closing.lstrip()
    return gap + len(core) if core and rest.startswith(core, gap) else None


def _complement(spans: Sequence[Span], length: int) -> list[Span]:
    rest, at = [], 0
    for start, end in sorted(spans):
        if at < start:
            rest.append((at, start))
        at = max(at, end)
    return [*rest, (at, length)] if at < length else rest


def _without_special(text: str, tokenizer: Tokenizer) -> str:
    for name in sorted(tokenizer.special, key=len, reverse=True):
        text = text.replace(name, name[0] + "\u200b" + name[1:])
    return text


def chat_template(source: str | None, tokenizer: Tokenizer) -> ChatTemplate:
    """The template of a model: `source` as its files give it, or ChatML when they give none."""
    names = {id: name for name, id in tokenizer.special.items()}
    bos = names.get(tokenizer.bos_id, "") if tokenizer.bos_id is not None else ""
    eos = names.get(tokenizer.eos_ids[0], "") if tokenizer.eos_ids else ""
    if source is not None and source.strip():
        return ChatTemplate(source, bos, eos)
    last = end_of_text_id(tokenizer)
    turn = next((n for n in END_OF_TURN if n in tokenizer.special), names.get(last, "") if last is not None else "")
    return ChatTemplate(CHATML, bos, eos, end_of_turn=turn or "<|im_end|>", name="ChatML")


def messages_from(plain: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    """Messages from `{"role", "content"}` mappings."""
    return tuple(Message(m["role"], m["content"]) for m in plain)

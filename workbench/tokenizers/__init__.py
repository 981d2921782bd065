"""Text to ids and back; conversations to text by the model's own chat template.

tokenizer = tokenizer_from_gguf(fields)            # or tokenizer_from_folder(path), ByteTokenizer()
ids = tokenizer.encode("Hello"); text = tokenizer.decode(ids)
template = chat_template(source, tokenizer)        # source None: a ChatML template
ids = template.encode(tokenizer, [Message("user", "Hello")])
"""

from __future__ import annotations

from workbench.tokenizers.base import AddedToken, StreamDecoder, Tokenizer, end_of_text_id, mask_token_id
from workbench.tokenizers.bpe import BpeTokenizer, bpe_tokenizer
from workbench.tokenizers.byte_level import ByteTokenizer
from workbench.tokenizers.chat_template import CHATML, ChatTemplate, EncodedChat, Message, chat_template, messages_from
from workbench.tokenizers.from_gguf import chat_template_text, tokenizer_from_gguf
from workbench.tokenizers.from_hf import chat_template_text_from_folder, tokenizer_from_folder
from workbench.tokenizers.from_json import tokenizer_from_json
from workbench.tokenizers.rust import RustTokenizer
from workbench.tokenizers.sandbox import ConversationError
from workbench.tokenizers.spec import BpeSpec

__all__ = [
    "CHATML", "AddedToken", "BpeSpec", "BpeTokenizer", "ByteTokenizer", "ChatTemplate", "ConversationError", "EncodedChat", "Message",
    "RustTokenizer", "StreamDecoder", "Tokenizer", "bpe_tokenizer", "chat_template", "chat_template_text",
    "chat_template_text_from_folder", "end_of_text_id", "mask_token_id", "messages_from", "tokenizer_from_folder", "tokenizer_from_gguf",
    "tokenizer_from_json",
]  # fmt: skip

"""GGUF files written here are run by llama.cpp: the same tokens, the same logits, the same greedy text.

`llama-cpp-python` has no wheels and takes minutes to build, so it is no dependency, not even of the tests: where it is
missing these are skipped.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.checkpoints import Loaded, load_checkpoint, save_checkpoint
from workbench.model import ModelConfig, Transformer, build_model
from workbench.tokenizers import AddedToken, BpeSpec, ByteTokenizer, Tokenizer, bpe_tokenizer
from workbench.tokenizers.patterns import PATTERNS
from workbench.tokenizers.rust import RustTokenizer, sentencepiece_pipeline
from workbench.tokenizers.spec import LETTER_OF_BYTE

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (pip install llama-cpp-python builds it)")

F32 = 0
"""ggml's number for single precision: the cache in half precision would hide small faults."""
SIZES: dict[str, Any] = dict(vocab_size=300, n_layers=3, d_model=64, n_heads=4, d_ff=96, max_positions=128)
GPT2_STYLE: dict[str, Any] = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True
)  # fmt: skip


def rope(**changes: Any) -> dict[str, Any]:
    return {"position": {"kind": "rope", **changes}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama grouped, untied, wide heads": ("llama", {"n_kv_heads": 2, "tie_embeddings": False, "head_dim": 24}),
    "llama all biases": ("llama", {"n_kv_heads": 1, "attention_bias": True, "attention_out_bias": True, "mlp_bias": True}),
    "llama base, epsilon": ("llama", {**rope(base=5e5), "norm": {"kind": "rmsnorm", "eps": 1e-3}}),
    "mistral window": ("llama", {"sliding_window": 48, "n_kv_heads": 2}),
    "linear": ("llama", rope(scaling={"kind": "linear", "factor": 4})),
    "ntk": ("llama", rope(scaling={"kind": "ntk", "factor": 4})),
    "yarn": ("llama", rope(scaling={"kind": "yarn", "factor": 4})),
    "yarn sharpened": ("llama", rope(scaling={"kind": "yarn", "factor": 8, "original": 16, "attention_factor": 1.5})),
    "llama3": ("llama", {**rope(base=5e5, scaling={"kind": "llama3", "factor": 32}), "head_dim": 64}),
    "qwen2": ("qwen2", {"n_kv_heads": 2, "attention_bias": True}),
    "qwen2 untied, yarn": ("qwen2", {"attention_bias": True, "tie_embeddings": False, **rope(scaling={"kind": "yarn", "factor": 4})}),
    "qwen3": ("qwen3", {"n_kv_heads": 2, "qk_norm": "head", "head_dim": 32}),
    "gpt2": ("gpt2", GPT2_STYLE),
    "gpt2 untied": ("gpt2", {**GPT2_STYLE, "tie_embeddings": False}),
}


def tiny(config: dict[str, Any], spread: float = 0.25) -> Transformer:
    """Random weights, with biases and gains that show when they are lost."""
    model = build_model(ModelConfig(**{**SIZES, **config}), seed=3)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=draw) * spread
            parameter.copy_(1 + values if "norm" in name and name.endswith("weight") else values)
    return model


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """`opened(path)` -> a llama.cpp model on one thread, closed at the end."""
    models: list[Any] = []

    def open_model(path: Path, context: int = 64) -> Any:
        model = llama_cpp.Llama(
            str(path), n_ctx=context, n_batch=context, n_threads=1, n_threads_batch=1, type_k=F32, type_v=F32,
            logits_all=True, flash_attn=False, verbose=False,
        )  # fmt: skip
        models.append(model)
        return model

    yield open_model
    for model in models:
        model.close()


def their_logits(llama: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    llama.reset()
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)])


def our_logits(model: Transformer, ids: list[int]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].numpy()


def their_text(llama: Any, ids: list[int], count: int) -> list[int]:
    llama.reset()
    written: list[int] = []
    for id in llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        written.append(int(id))
        if len(written) == count:
            break
    return written


def our_text(model: Transformer, ids: list[int], count: int) -> list[int]:
    seen = list(ids)
    for _ in range(count):
        seen.append(int(our_logits(model, seen)[-1].argmax()))
    return seen[len(ids) :]


@pytest.mark.parametrize("case", CASES)
def test_a_tiny_model_of_every_architecture_computes_the_same(case: str, tmp_path: Path, opened: Callable[..., Any]) -> None:
    family, config = CASES[case]
    model = tiny(config)
    report = save_checkpoint(model, None, None, tmp_path / "tiny.gguf", format="gguf")
    assert report.family == family
    assert report.max_abs_logit_difference < 1e-3  # zero, but for a base that single precision rounds
    ids = torch.randint(300, (40,), generator=torch.Generator().manual_seed(5)).tolist()
    llama = opened(tmp_path / "tiny.gguf", 48)
    ours, theirs = our_logits(model, ids), their_logits(llama, ids)
    # llama.cpp looks GELU up in a table of half-precision numbers
    allowed = (5e-3 if family == "gpt2" else 5e-4) * np.abs(ours).max()
    assert np.abs(ours - theirs).max() < allowed


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("config", [{"n_kv_heads": 2}, GPT2_STYLE], ids=["llama", "gpt2"])
def test_every_type_runs_as_the_file_reads_back(type: str, config: dict[str, Any], tmp_path: Path, opened: Callable[..., Any]) -> None:
    report = save_checkpoint(tiny(config), None, None, tmp_path / "tiny.gguf", format="gguf", type=type)
    again = load_checkpoint(tmp_path / "tiny.gguf").model
    ids = list(range(1, 40))
    ours, theirs = our_logits(again, ids), their_logits(opened(tmp_path / "tiny.gguf"), ids)
    # their activations are rounded to the type of the weights before they are multiplied
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(ours)
    assert report.max_abs_logit_difference < 0.2 * np.abs(ours).max()


# ---- tokenizers --------------------------------------------------------------------------------------------------

TEXTS = (
    "Hello, world! It's 2024 and they'll pay $3.14.", "  two  spaces,\ttab\n\nlines\n", "naïve café — „so“",
    "日本語のテキスト 한국어 русский",
    "🙂👩‍👩‍👧 x² ½", "def f(x):\n    return x**2  # comment", "he hehe <|im_end|> the", "<|endoftext|>he<|im_end|>\n", "",
)  # fmt: skip


def trained(pattern: str, **changes: Any) -> Tokenizer:
    """A byte-level BPE whose merges reach words, spaces and digits."""
    merges = ("h e", "Ġ t", "Ġt he", "l l", "Ġ Ġ", "1 2", "2 0", "Ċ Ċ", "' ll", "Ġ s", "e r")
    tokens = ["<|endoftext|>", "", *LETTER_OF_BYTE.values(), *(m.replace(" ", "") for m in merges)]
    added = (AddedToken(0, "<|endoftext|>"), AddedToken(1, "<|im_end|>"), AddedToken(len(tokens), "<tool>", special=False))
    spec = BpeSpec(
        name="trained", tokens=("", *tokens[1:]), merges=merges, pattern=pattern, added=added, **{"eos_ids": (0,), "bos_id": 0, **changes}
    )
    return bpe_tokenizer(spec)


def assert_same_tokens(tokenizer: Tokenizer, llama: Any, texts: tuple[str, ...] = TEXTS) -> None:
    for text in texts:
        theirs = llama.tokenize(text.encode(), add_bos=False, special=True)
        assert theirs == tokenizer.encode(text, special=True), text
    begin = [tokenizer.bos_id] if tokenizer.add_bos else []
    assert llama.tokenize(b"he", add_bos=True, special=True) == begin + tokenizer.encode("he")
    for id in range(tokenizer.vocab_size):
        assert llama.detokenize([id], special=True) == tokenizer.token_bytes(id), id


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS.values())), ids=lambda p: next(n for n, known in PATTERNS.items() if known == p))
def test_every_known_way_to_cut_text_is_llama_cpps(pattern: str, tmp_path: Path, opened: Callable[..., Any]) -> None:
    tokenizer = trained(pattern)
    save_checkpoint(tiny({}), tokenizer, None, tmp_path / "tiny.gguf", format="gguf")
    assert_same_tokens(tokenizer, opened(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), trained(PATTERNS["gpt-2"], add_bos=True), trained(PATTERNS["gpt-2"], eos_ids=(), bos_id=None)],
    ids=["bytes", "begin", "no ends"],
)  # fmt: skip
def test_other_tokenizers_give_the_same_tokens(tokenizer: Tokenizer, tmp_path: Path, opened: Callable[..., Any]) -> None:
    save_checkpoint(tiny({}), tokenizer, None, tmp_path / "tiny.gguf", format="gguf")
    llama = opened(tmp_path / "tiny.gguf")
    assert_same_tokens(tokenizer, llama)
    if tokenizer.eos_ids:
        assert llama.token_eos() == tokenizer.eos_ids[0]
        assert all(llama_cpp.llama_vocab_is_eog(llama._model.vocab, id) for id in tokenizer.eos_ids)


def sentencepiece() -> Tokenizer:
    """A vocabulary on characters with bytes to fall back to, as LLaMA 1 and 2 have; better scores merge first."""
    pieces = ["▁", *"abcdehlnorstuwy,.!'12é", "he", "▁t", "▁the", "ll", "▁▁", "er", "▁w", "▁wo", "or", "▁wor", "ld", "lo", "llo"]
    tokens = ["", "", "", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces))]
    added = (AddedToken(0, "<unk>"), AddedToken(1, "<s>"), AddedToken(2, "</s>"))
    return RustTokenizer(sentencepiece_pipeline(tokens, scores, added, True), name="spm", bos_id=1, eos_ids=(2,), add_bos=True)


def test_a_sentencepiece_vocabulary_gives_the_same_tokens(tmp_path: Path, opened: Callable[..., Any]) -> None:
    tokenizer = sentencepiece()
    save_checkpoint(tiny({}), tokenizer, None, tmp_path / "tiny.gguf", format="gguf")
    llama = opened(tmp_path / "tiny.gguf")
    for text in ("hello world, the other", "  two  spaces\tand é日本\n", "12he!", "theher ler"):
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text, special=True), text
        assert llama.tokenize(text.encode(), add_bos=True, special=False) == [1, *tokenizer.encode(text)]
    assert llama.token_eos() == 2


# ---- what llama.cpp quantized ------------------------------------------------------------------------------------

FILE_TYPES = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0",
)  # fmt: skip


@pytest.mark.parametrize("name", FILE_TYPES)
def test_what_llama_cpp_quantizes_is_read_as_it_reads_it(name: str, tmp_path: Path, opened: Callable[..., Any]) -> None:
    save_checkpoint(tiny({"d_model": 256, "d_ff": 512, "n_kv_heads": 2}, 0.06), None, None, tmp_path / "f32.gguf", format="gguf")
    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype, how.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}"), 1
    place = tmp_path / "quantized.gguf"
    assert llama_cpp.llama_model_quantize(str(tmp_path / "f32.gguf").encode(), str(place).encode(), ctypes.byref(how)) == 0
    ids = list(range(1, 40))
    ours, theirs = our_logits(load_checkpoint(place).model, ids), their_logits(opened(place), ids)
    # their activations are rounded to eight bits before they are multiplied
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(ours)


# ---- the starter -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter(starter_path: Path) -> Loaded:
    return load_checkpoint(starter_path)


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_in_single_precision_writes_the_same_text(starter: Loaded, tmp_path: Path, opened: Callable[..., Any]) -> None:
    save_checkpoint(starter.model, starter.tokenizer, starter.chat_template, tmp_path / "s.gguf", format="gguf")
    llama = opened(tmp_path / "s.gguf", 96)
    assert starter.tokenizer is not None
    for text in TEXTS:
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == starter.tokenizer.encode(text, special=True)
    for prompt in ("The capital of France is", "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"):
        ids = starter.tokenizer.encode(prompt, special=True)
        assert their_text(llama, ids, 32) == our_text(starter.model, ids, 32)
        assert np.abs(their_logits(llama, ids) - our_logits(starter.model, ids)).max() < 0.01
    assert llama.metadata["tokenizer.chat_template"] == starter.chat_template


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_in_eight_bits_runs(starter: Loaded, tmp_path: Path, opened: Callable[..., Any]) -> None:
    report = save_checkpoint(starter.model, starter.tokenizer, starter.chat_template, tmp_path / "s.gguf", format="gguf", type="q8_0")
    assert report.nbytes < 150e6
    llama = opened(tmp_path / "s.gguf", 96)
    assert starter.tokenizer is not None
    ids = starter.tokenizer.encode("The capital of France is")
    assert starter.tokenizer.decode(their_text(llama, ids, 3)).startswith(" Paris")

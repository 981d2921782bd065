"""The facade: one loaded model, its adapters and runs. The window's buttons and the command line's verbs call the same methods.

Methods return values or event generators; long ones take a `Control`. A session may be used by several threads at once: one
that chats and one that trains share the model's weights and choose their adapters per thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch

from workbench import adapters
from workbench.adapters.peft import load_adapter
from workbench.caches import CacheConfig
from workbench.chatting import ChatCache, new_cache, with_adapters
from workbench.checkpoints import Loaded, SaveReport, load_events
from workbench.converting import ConversionMeasure, converted, converted_summary, measured, room_for_undo
from workbench.core.control import Control
from workbench.core.errors import BusyError, FileError, WorkbenchError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import require_usable
from workbench.core.registry import Choice
from workbench.data import DataConfig, DataReport
from workbench.data.samples import sample_text
from workbench.describing import adapter_label, chat_template, read_text, require_tokenizer, summarize
from workbench.devices import Compute, choose_compute, default_threads
from workbench.exporting import ExportConfig, ExportPlan, Merged, export, plan_export
from workbench.finetuning import finetune, prepare_data
from workbench.generation import GenerationResult, Reply, ScoreResult, generate, reply, score
from workbench.in_force import Before, Conversion, InForce, Quantization, busy, stamp_of
from workbench.library import Library
from workbench.model import Accounting, ModelConfig, Transformer, account
from workbench.model.convert import ConversionPlan, ConversionReport, plan
from workbench.pairing import Company, PairChat, PairReply
from workbench.pretraining import PretrainCheck, pretrain, pretrain_pair
from workbench.pretraining import preflight as preflight_pretrain
from workbench.quality import QualityReport, QualityRequest, measure
from workbench.quantization import QuantizationConfig, QuantizationPlan, QuantizationReport, is_quantized
from workbench.quantization import plan as plan_quantization
from workbench.quantization import report as quantization_report
from workbench.quantizing import full_precision, quantized_summary, quantized_twin
from workbench.requests import (
    AdapterState,
    CacheChange,
    CacheReport,
    ChatRequest,
    FinetuneRequest,
    ModelSummary,
    PairChatRequest,
    PairRequest,
    PretrainRequest,
    PromptRequest,
    ScoreRequest,
)
from workbench.runs import fresh_folder
from workbench.studies import STUDIES, StudyContext, StudyResult
from workbench.tokenizers import ChatTemplate
from workbench.training import TrainResult

T = TypeVar("T")


class Session:
    """Everything the program can do, without a window.

    `home` is the data folder (default: the user's); `device` and `dtype` as in `ComputeConfig`; `threads` None: one per
    physical core.
    """

    def __init__(self, home: Path | None = None, device: str = "auto", dtype: str = "auto", threads: int | None = None) -> None:
        self.library = Library(home)
        self.compute: Compute = choose_compute(device, dtype)
        torch.set_num_threads(threads or default_threads())
        self._loaded: Loaded | None = None
        self._template: ChatTemplate | None = None
        self._summary: ModelSummary | None = None
        self._in_force: InForce | None = None
        self._conversion: Conversion | None = None
        self._quantization: Quantization | None = None
        self._adapter_names = (f"chat-{number}" for number in count())
        self._adapter_users = 0
        self._chat = ChatCache()
        self._pair = PairChat()
        self._model_users = 0
        self._lock = threading.Lock()

    @property
    def home(self) -> Path:
        return self.library.home

    # ---- the model ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> ModelSummary | None:
        """The loaded model's summary; None before the first load."""
        return self._summary

    @property
    def loaded(self) -> Loaded:
        """Model, tokenizer and template themselves, for scripts and other rooms. Raises `WorkbenchError` when none is loaded."""
        if self._loaded is None:
            raise WorkbenchError("No model is loaded.", hint="Load one first: the starter model, a folder, or a GGUF file.")
        return self._loaded

    @property
    def template(self) -> ChatTemplate | None:
        """The chat template in force; None for a model that was never taught to chat."""
        return self._template

    def load(self, model: str | Path, control: Control | None = None) -> Generator[Event, None, ModelSummary | None]:
        """Make `model` (a library name, folder or file) the current one. The old model stays until the new one is whole;
        a stop returns None and keeps the old one. Raises `FileError`, `ModelError`, or `BusyError` while the model is in use."""
        path = self.library.resolve(model)
        self._require_idle("load another model")
        yield Phase(word="Loading")
        loaded = yield from load_events(path, self.compute.device, self.compute.dtype, control)
        if loaded is None:
            return None
        with self._lock:
            if self._model_users:
                raise busy("load another model")
            self._loaded = loaded
            self._template = chat_template(loaded)
            self._summary = summarize(loaded, path, model, self.compute, self._template)
            self._in_force = self._conversion = self._quantization = None
            self._chat, self._pair = ChatCache(), PairChat()
        try:
            self.library.remember(path)
        except FileError as error:  # a convenience; the model is loaded all the same
            yield Notice(message=f"The list of recent models was not kept: {error.message}", level="warning")
        for notice in loaded.notices:
            yield Notice(message=notice)
        return self._summary

    def unload(self) -> None:
        """Forget the model and free its memory. Raises `BusyError` while it is in use."""
        with self._lock:
            if self._model_users:
                raise busy("unload the model")
            self._loaded = self._template = self._summary = self._in_force = self._conversion = self._quantization = None
            self._chat, self._pair = ChatCache(), PairChat()

    def account(self, config: ModelConfig | None = None) -> Accounting:
        """What an architecture costs (default: the loaded model's); allocates nothing."""
        return account(config or self.loaded.config)

    @contextmanager
    def _using_model(self) -> Iterator[Loaded]:
        """Hold the model: it cannot be exchanged inside the block."""
        with self._lock:
            loaded = self.loaded
            self._model_users += 1
        try:
            yield loaded
        finally:
            with self._lock:
                self._model_users -= 1

    def _require_idle(self, what: str) -> None:
        with self._lock:
            if self._model_users:
                raise busy(what)

    # ---- chat --------------------------------------------------------------------------------------------------------

    def reply(self, request: ChatRequest, control: Control | None = None) -> Generator[Event, None, Reply]:
        """Answer the last message of a conversation with the current model and adapter; tokens as they come.

        The keys and values of the conversation stay for the next message when the cache is on. Raises `DataError` when
        the conversation does not fit, `ConfigError` for unusable settings, `BusyError` when another reply is being written.
        """
        require_usable(request.cache)
        with self._using_model() as loaded, self._chat.held() as chat, self._using_adapter() as chosen:
            tokenizer = require_tokenizer(loaded)
            yield from chat.changing(loaded.model, request.cache)
            change = chat.change()
            steps = reply(
                loaded.model, tokenizer, self._template, request.conversation, request.generation,
                cache=chat.cache, state=chat.state, control=control, key=tuple(chosen.items()),
                prefill_dtype=self.compute.prefill_dtype, limits=request.cache, cache_change=None if change is None else change.how,
                stop_ids=None if self._template is None else self._template.stop_ids(tokenizer),
            )  # fmt: skip
            return (yield from with_adapters(loaded.model, chosen, chat.stepping(steps)))

    def set_cache(self, config: CacheConfig, control: Control | None = None) -> Generator[Event, None, CacheChange | None]:
        """Go over to other settings of the chat's cache at once, instead of with the next message; None when `control` stopped it,
        and everything is as it was. Raises `ConfigError`, `ModelError` when it does not fit, `BusyError` while a reply is written."""
        require_usable(config)
        with self._using_model() as loaded, self._chat.held() as chat:
            return (yield from chat.changing(loaded.model, config, control))

    def cache_state(self) -> CacheReport | None:
        """What the chat's cache holds, also while a reply is being written; None when there is none."""
        return self._chat.report()

    def reply_pair(self, request: PairChatRequest, control: Control | None = None) -> Generator[Event, None, PairReply | None]:
        """Answer the same message with two settings, a token of each in turn; see `pairing`. Each side has a cache of its own, kept
        for the next message of the comparison; the chat's stays as it is. None when stopped before there was a model to answer
        with. Raises what `reply` raises."""
        with self._using_model() as loaded, self._pair.held() as pair, self._using_adapter() as chosen:
            control = control or Control()
            plain = partial(self._full_precision, loaded, control)
            company = Company(loaded.model, require_tokenizer(loaded), self._template, self.quantization_config, chosen, plain)
            return (yield from pair.reply(request, company, control))

    def end_pair(self) -> None:
        """Forget the caches and twins of the comparison and free their memory. Raises `BusyError` while both sides write."""
        with self._pair.held():
            self._pair = PairChat()

    def complete(self, request: PromptRequest, control: Control | None = None) -> Generator[Event, None, GenerationResult]:
        """Continue a text with a cache of its own; the chat's stays as it is."""
        require_usable(request.cache)
        with self._using_model() as loaded, self._using_adapter() as chosen:
            tokenizer = require_tokenizer(loaded)
            begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
            cache = new_cache(loaded.model, request.cache)
            steps = generate(
                loaded.model, tokenizer, begin + tokenizer.encode(request.prompt), request.generation,
                cache=cache, control=control, prefill_dtype=self.compute.prefill_dtype, limits=request.cache,
            )  # fmt: skip
            return (yield from with_adapters(loaded.model, chosen, steps))

    def score(self, request: ScoreRequest, control: Control | None = None) -> Generator[Event, None, ScoreResult]:
        """How well the model, with the adapter in force, predicts a text. Raises `FileError` when it cannot be read."""
        require_usable(request.cache)
        with self._using_model() as loaded, self._using_adapter() as chosen:
            tokenizer = require_tokenizer(loaded)
            ids = tokenizer.encode(read_text(request.file))
            steps = score(
                loaded.model, tokenizer, ids,
                window=request.window, stride=request.stride, cache=new_cache(loaded.model, request.cache), control=control,
            )  # fmt: skip
            return (yield from with_adapters(loaded.model, chosen, steps))

    def quality(self, request: QualityRequest, control: Control | None = None) -> Generator[Event, None, QualityReport]:
        """What caches and weights in few bits do to the predictions of the model as it was loaded, with the adapter in force. See
        `quality.measure`."""
        with self._using_model() as loaded, self._using_adapter() as chosen:
            control = control or Control()
            plain = loaded if self._quantization is None else (yield from self._full_precision(loaded, control))
            if plain is None:
                return QualityReport(model=loaded.source.name, text="", rows=(), stopped=True)
            return (yield from measure(plain, chosen, request, control))

    @contextmanager
    def _using_adapter(self) -> Iterator[dict[str, float]]:
        """What acts on the work inside the block (name -> strength); it cannot be exchanged meanwhile."""
        with self._lock:
            force = self._in_force
            self._adapter_users += 1
        try:
            yield {force.name: force.state.strength} if force else {}
        finally:
            with self._lock:
                self._adapter_users -= 1

    # ---- fine-tuning ---------------------------------------------------------------------------------------------------

    def preflight(self, data: DataConfig, max_length: int, control: Control | None = None) -> Generator[Event, None, DataReport]:
        """What of the data the loaded model would learn, and what not and why. Reads no weights, so it keeps nobody from
        loading another model meanwhile."""
        loaded = self.loaded
        prepared = yield from prepare_data(loaded, require_tokenizer(loaded), data, max_length, control or Control())
        return prepared.report

    def finetune(self, request: FinetuneRequest, control: Control | None = None) -> Generator[Event, None, TrainResult]:
        """Train an adapter of the loaded model; the chat goes on with the model as it was. See `finetuning.finetune`."""
        with self._using_model() as loaded:
            assert self._summary is not None
            steps = finetune(loaded, self._summary, require_tokenizer(loaded), request, self.library.runs_folder, control or Control())
            return (yield from steps)

    def preflight_pretrain(self, request: PretrainRequest, control: Control | None = None) -> Generator[Event, None, PretrainCheck]:
        """What a run from scratch would read: tokens, windows, vocabulary. See `pretraining.preflight`."""
        return preflight_pretrain(request, self.library.resolve, control or Control())

    def run_folder(self, label: str) -> Path:
        """A folder for a run that does not exist yet, named by date, time and `label`."""
        return fresh_folder(self.library.runs_folder, label)

    def pretrain(self, request: PretrainRequest, control: Control | None = None) -> Generator[Event, None, TrainResult]:
        """Train a fresh model; the current one, if any, stays as it is. `load(result.model)` opens the finished one. See
        `pretraining.pretrain`."""
        return pretrain(request, self.library.runs_folder, self.compute, self.library.resolve, control or Control())

    def pretrain_pair(self, request: PairRequest, control: Control | None = None) -> Generator[Event, None, TrainResult]:
        """Train two fresh models that differ in some toggles, step by step side by side. See `pretraining.pretrain_pair`."""
        return pretrain_pair(request, self.library.runs_folder, self.compute, self.library.resolve, control or Control())

    def merge(
        self, adapter: Path, strength: float, out: Path, format: str = "hf", control: Control | None = None
    ) -> Generator[Event, None, SaveReport | None]:
        """Write a copy of the model with an adapter added into its weights, read it back and compare. See `exporting.export`."""
        with self._using_model() as loaded:
            return (yield from export(loaded, Merged(adapter, strength), out, format, control=control or Control()))

    def export(
        self, out: Path, format: str = "hf", type: str | None = None, overwrite: bool = False, control: Control | None = None
    ) -> Generator[Event, None, SaveReport | None]:
        """Write the model as it chats now, with the adapter in force added into its weights, for other programs: a Hugging Face
        folder (hf), a .gguf file (gguf), or our own (workbench). See `exporting.export`."""
        with self._using_model() as loaded:
            force = self.adapter
            merged = None if force is None else Merged(force.path, force.strength)
            return (yield from export(loaded, merged, out, format, type=type, overwrite=overwrite, control=control or Control()))

    def plan_export(self, config: ExportConfig) -> ExportPlan:
        """What `export` would write, and how large; nothing is touched. Raises `ModelError` naming what the format cannot hold."""
        return plan_export(self.loaded, config)

    # ---- converting --------------------------------------------------------------------------------------------------

    def plan_conversion(self, new: ModelConfig) -> ConversionPlan:
        """What becomes of the loaded model in another architecture, setting by setting; a few milliseconds, nothing allocated.
        Raises `ConfigError` when that architecture cannot be built."""
        return plan(self.loaded.config, new)

    def measure_conversion(
        self, new: ModelConfig, sample: Path | None = None, control: Control | None = None
    ) -> Generator[Event, None, ConversionMeasure | None]:
        """What a conversion costs in nats per token on a text (None: a built-in one), adapters aside. It only reads, and keeps
        nobody from using or exchanging the model meanwhile. See `converting.measured`."""
        loaded = self.loaded
        text, name = (sample_text(), "built-in prose") if sample is None else (read_text(sample), sample.name)
        return (yield from measured(loaded, require_tokenizer(loaded), new, text, name, control or Control()))

    def convert(self, new: ModelConfig, control: Control | None = None) -> Generator[Event, None, ConversionReport | None]:
        """Make the loaded model, converted, the current one; the old one is kept for `undo_conversion` while memory allows, with
        its adapter, which does not come along. None when `control` stopped it. Raises `ConfigError`, `ModelError`, `BusyError`."""
        self._require_idle("convert the model")
        loaded = self.loaded
        made = yield from converted(loaded, new, control or Control())
        if made is None:
            return None
        with self._lock:
            if self._model_users or self._loaded is not loaded or self._summary is None:
                raise busy("convert the model")
            undone = self._conversion and replace(self._conversion, before=None)
            before = Before(loaded, self._summary, self._in_force, undone, self._quantization)
            self._loaded, report = made
            self._summary = converted_summary(self._loaded, before.summary)
            self._in_force = self._quantization = None
            self._chat, self._pair = ChatCache(), PairChat()
            self._conversion = Conversion(report, before if room_for_undo(loaded.model) else None)
        if self._conversion.before is None:
            yield Notice(message="Memory does not allow to keep the old model for undo; load it again instead.", level="warning")
        if before.in_force is not None:
            yield Notice(message=f"The adapter {before.in_force.state.name} belongs to the old model and does not act.", level="warning")
        return report

    def undo_conversion(self) -> ModelSummary:
        """Go back to the model, and its adapter, as before the last conversion. Raises `WorkbenchError` when there is none to go
        back to, `BusyError` while the model is in use."""
        with self._lock:
            before = None if self._conversion is None else self._conversion.before
            if before is None:
                raise WorkbenchError("There is no conversion to undo.", hint="Load the model again to have it as it was.")
            if self._model_users:
                raise busy("undo the conversion")
            self._loaded, self._summary = before.loaded, before.summary
            self._in_force, self._conversion, self._quantization = before.in_force, before.conversion, before.quantization
            self._chat, self._pair = ChatCache(), PairChat()
            return before.summary

    @property
    def conversion(self) -> ConversionReport | None:
        """How the current model was converted; None when it is as it was loaded."""
        return None if self._conversion is None else self._conversion.report

    @property
    def can_undo_conversion(self) -> bool:
        return self._conversion is not None and self._conversion.before is not None

    # ---- quantizing --------------------------------------------------------------------------------------------------

    def plan_quantization(self, config: QuantizationConfig) -> QuantizationPlan:
        """Which modules `config` would quantize, why not the others, and the bytes before and after; nothing is allocated."""
        return plan_quantization(self.loaded.model, config)

    def quantize(
        self, config: QuantizationConfig | None, control: Control | None = None
    ) -> Generator[Event, None, QuantizationReport | None]:
        """Keep the chosen weights in few bits, or all in full precision again (None), always from the weights as they were loaded; the
        conversation's cache is emptied, the adapter stays. None when `control` stopped it, and everything is as it was. Raises
        `ConfigError`, `ModelError`, `FileError`, `BusyError` while the model is in use; nothing has changed then either."""
        self._require_idle("quantize the model")
        loaded, force, control = self.loaded, self._in_force, control or Control()
        plain = yield from self._full_precision(loaded, control)
        if plain is None:
            return None
        model = plain.model if config is None else (yield from quantized_twin(plain.model, config, control))
        if model is None:
            return None
        with self._lock:
            if self._model_users or self._loaded is not loaded or self._in_force is not force:
                raise busy("quantize the model")
            assert self._summary is not None
            self._loaded = replace(plain, model=model)
            self._summary = quantized_summary(self._loaded, self._summary)
            self._quantization = None if config is None else Quantization(config, plain if self._summary.converted else None)
            self._chat, self._pair = ChatCache(), PairChat()
        if self._quantization is not None and self._quantization.original is not None:
            yield Notice(message="No file holds this model in full precision, so those weights stay in memory too; export it to free them.")
        return quantization_report(model)

    def _full_precision(self, loaded: Loaded, control: Control) -> Generator[Event, None, Loaded | None]:
        """The model with the weights it was loaded with, and with the adapter in force attached. None when `control` stopped it."""
        force, summary = self._in_force, self._summary
        assert summary is not None
        kept = None if self._quantization is None else self._quantization.original
        plain = yield from full_precision(loaded, summary, kept, self.compute, control)
        if plain is not None and force is not None and force.name not in adapters.adapter_names(plain.model):
            load_adapter(plain.model, force.state.path, force.name, strength=0.0)
        return plain

    @property
    def quantization(self) -> QuantizationReport | None:
        """What each module's weights are kept as; None in full precision."""
        model = None if self._loaded is None else self._loaded.model
        return None if model is None or not is_quantized(model) else quantization_report(model)

    @property
    def quantization_config(self) -> QuantizationConfig | None:
        """How the model was quantized after loading; None when it was not."""
        return None if self._quantization is None else self._quantization.config

    # ---- studies -----------------------------------------------------------------------------------------------------

    def study(self, name: str, options: Any = None, control: Control | None = None) -> Generator[Event, None, StudyResult | None]:
        """Do a study on the loaded model, if there is one; None when `control` stopped it. It only reads the model, and keeps
        nobody from using or exchanging it meanwhile. `options`: the dataclass of `STUDIES[name]`, None for its defaults."""
        entry = STUDIES[name]
        study = Choice(STUDIES, name, entry.options() if options is None else options).make()
        return (yield from study.run(StudyContext(self._loaded, self.home / "studies" / name, self.compute), control or Control()))

    # ---- adapters ----------------------------------------------------------------------------------------------------

    @property
    def adapter(self) -> AdapterState | None:
        """The adapter that acts on the chat."""
        return None if self._in_force is None else self._in_force.state

    def use_adapter(self, path: Path | None, strength: float = 1.0) -> AdapterState | None:
        """Let an adapter folder act from the next message on; None for the bare model. The folder is read again when its
        files changed. Raises `FileError` or `ModelError` when it does not fit, and `BusyError` while an adapter is at work;
        nothing is changed then."""
        with self._using_model() as loaded, self._chat.held():
            with self._lock:
                if self._adapter_users:
                    raise BusyError("The adapter is at work.", hint="Stop the reply, or wait until it is done.")
                old = self._in_force
            self._chat.empty()
            if path is None:
                self._put_in_force(loaded.model, None)
                return None
            stamp = stamp_of(path)
            state = AdapterState(adapter_label(path), path, float(strength))
            if old is not None and (old.state.path, old.stamp) == (path, stamp):
                with self._lock:
                    self._in_force = InForce(old.name, state, stamp)
                return state
            name = next(self._adapter_names)
            # Raises before anything is taken off; at strength 0 it acts where a reply selects it, and nowhere else.
            load_adapter(loaded.model, path, name, strength=0.0)
            self._put_in_force(loaded.model, InForce(name, state, stamp))
            return state

    def set_strength(self, strength: float) -> None:
        """How strongly the adapter acts from the next message on: 0 off, 1 as trained."""
        with self._lock:
            if self._in_force is not None:
                self._in_force = replace(self._in_force, state=replace(self._in_force.state, strength=float(strength)))

    def _put_in_force(self, model: Transformer, new: InForce | None) -> None:
        with self._lock:
            old, self._in_force = self._in_force, new
        if old is not None:
            adapters.detach(model, old.name)

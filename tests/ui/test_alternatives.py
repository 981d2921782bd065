"""What a setting could be instead: which values are offered, and what they cost; and how the help card tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.architecture.alternatives import Alternative, Cost, alternatives, field_at, used_by_presets, with_value
from ui.architecture.help_card import HelpCard, card_html, linked, signed
from ui.forms import ConfigForm
from ui.services import Services
from workbench.core.fields import info_of
from workbench.core.format import count_text
from workbench.model import PRESETS, ModelConfig, account
from workbench.parts.norms import NORMS

STARTER = PRESETS["smollm2-135m"].config
YARN = {"kind": "rope", "scaling": {"kind": "yarn", "factor": 4.0}}


def found(path: str, config: ModelConfig = STARTER, context: int = 1000) -> dict[str, Alternative]:
    return {a.label: a for a in alternatives(account(config), path, context)}


class TestPaths:
    def test_a_dotted_path_reads_and_sets_what_lies_deep(self) -> None:
        config = replace(STARTER, position=YARN)
        info, value = field_at(config, "position.scaling.factor")
        assert (info.label, value) == ("Factor s", 4.0)
        changed = with_value(config, "position.scaling.factor", 8.0)
        assert changed.position.options.scaling.options.factor == 8.0
        assert config.position.options.scaling.options.factor == 4.0
        assert replace(changed, position=YARN) == config


class TestAlternatives:
    def test_every_other_kind_has_its_price(self) -> None:
        norms = found("norm")
        assert set(norms) == {e.label for e in NORMS} - {"RMSNorm"}
        cost = norms["LayerNorm"].cost
        assert cost == Cost(61 * 576, 0, 0), "a bias for each of 61 norms"

    def test_numbers_are_those_that_can_be_built(self) -> None:
        heads = found("n_kv_heads")
        assert set(heads) == {"one per head", "1"}, "9 is what automatic comes to; 2, 4 and 6 do not divide 9"
        assert heads["1"].cost is not None
        assert heads["1"].cost.kv_bytes == -2 * 30 * 2 * 64 * 4
        assert heads["one per head"].config.n_kv_heads is None

    def test_an_automatic_number_is_priced_at_what_presets_use(self) -> None:
        windows = found("sliding_window", context=8192)
        assert "4,096" in windows
        cost = windows["4,096"].cost
        assert cost is not None
        assert (cost.parameters, cost.kv_bytes) == (0, 0)
        assert cost.flops == -4 * 30 * 9 * 64 * (8192 - 4096)
        assert used_by_presets("position.rotary_fraction")[0] == 1.0, "options of a kind are found too"

    def test_switches_and_words_have_one_line_each(self) -> None:
        assert list(found("tie_embeddings")) == ["off"]
        assert set(found("qk_norm")) == {"Per head", "All heads at once"}

    def test_what_cannot_be_built_says_why(self) -> None:
        none = found("norm", replace(STARTER, qk_norm="head"))["No norm"]
        assert none.cost is None
        assert "QK-norm" in none.problem

    def test_floats_have_no_neighbours_worth_naming(self) -> None:
        assert found("position.base") == {}


class TestWords:
    def test_papers_are_links_and_nothing_else_is(self) -> None:
        assert linked("see arXiv:1910.07467 & <b>") == 'see <a href="https://arxiv.org/abs/1910.07467">arXiv:1910.07467</a> &amp; &lt;b&gt;'

    @pytest.mark.parametrize(("value", "text"), [(0, "="), (23040, "+23.04 k"), (-5, "−5")])
    def test_differences_have_a_sign(self, value: int, text: str) -> None:
        assert signed(value, count_text) == text

    def test_the_card_tells_help_equation_source_and_costs(self) -> None:
        html = card_html(info_of(ModelConfig, "norm"), STARTER.norm, alternatives(account(STARTER), "norm", 100))
        for words in ("How vectors are normalised", "RMSNorm", "<code>", "arxiv.org/abs/1910.07467", "+35,136", "Used by"):
            assert words in html

    def test_what_costs_nothing_is_said_in_one_sentence(self) -> None:
        config = replace(STARTER, position="rope")
        html = card_html(info_of(type(config.position.options), "scaling"), config.position.options.scaling,
                         alternatives(account(config), "position.scaling", 100))  # fmt: skip
        assert "neither parameters nor cache nor FLOPs" in html
        assert "<table" not in html


class TestCard:
    @pytest.fixture
    def form(self, qtbot: QtBot) -> ConfigForm:
        host = ConfigForm(ModelConfig, STARTER)
        qtbot.addWidget(host)
        host.resize(330, 900)
        with qtbot.waitExposed(host):
            host.show()
        return host

    @pytest.fixture
    def card(self, services: Services, form: ConfigForm) -> HelpCard:
        return HelpCard(services.theme, form)

    def _explain(self, card: HelpCard, form: ConfigForm, path: str) -> QWidget:
        row = form.row(path)
        assert row is not None
        card.explain(row, account(form.value), 100)
        return row

    def test_it_lies_under_its_row_and_goes_on_escape(self, card: HelpCard, form: ConfigForm, qtbot: QtBot) -> None:
        row = self._explain(card, form, "mlp")
        assert card.isVisible()
        assert row.isAncestorOf(card)
        other = self._explain(card, form, "tie_embeddings")
        assert other.isAncestorOf(card)
        with qtbot.waitSignal(card.closed):
            qtbot.keyClick(card, Qt.Key.Key_Escape)
        assert not card.isVisible()

    def test_a_click_on_an_alternative_asks_for_it(self, card: HelpCard, form: ConfigForm, qtbot: QtBot) -> None:
        self._explain(card, form, "tie_embeddings")
        with qtbot.waitSignal(card.picked) as asked:
            card.body.linkActivated.emit("pick:0")
        assert asked.args == ["tie_embeddings", False]

    def test_a_paper_is_opened_in_the_browser(self, card: HelpCard, form: ConfigForm, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[Any] = []
        monkeypatch.setattr("ui.architecture.help_card.QDesktopServices.openUrl", lambda url: opened.append(url.toString()))
        self._explain(card, form, "norm")
        card.body.linkActivated.emit("https://arxiv.org/abs/1910.07467")
        assert opened == ["https://arxiv.org/abs/1910.07467"]

    def test_it_leaves_with_the_kind_whose_option_it_explains(self, card: HelpCard, form: ConfigForm) -> None:
        self._explain(card, form, "position.base")
        card.refresh(account(replace(STARTER, position="none")), 100)
        assert card.path == ""
        assert not card.isVisible()

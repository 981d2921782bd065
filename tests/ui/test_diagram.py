"""The block diagram: what is traced from the parts, what is laid out where, and what ends up in a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, Qt
from PySide6.QtGui import QHelpEvent, QImage
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from ui.diagram.draw import _square
from ui.diagram.layout import GAPS, Box, Chip, Frame, Heads, Picture, Plus, Shape, Tie, best_fit, lay_out
from ui.diagram.spec import Spec, description, spec_of
from ui.diagram.trace import Join, Step, TraceError, trace
from ui.diagram.view import DiagramView
from ui.services import Services
from workbench.core.errors import FileError
from workbench.model import PRESETS, ModelConfig, account
from workbench.parts.residuals import RESIDUALS, Residual

STARTER = PRESETS["smollm2-135m"].config
NORM, ATTENTION, MLP = Step("norm"), Step("attention"), Step("mlp")


def spec(config: ModelConfig = STARTER, **changes: Any) -> Spec:
    changed = replace(config, **changes)
    return spec_of(changed, account(changed))


def picture(of: Spec, width: float = 340, gap: float = 8) -> Picture:
    return lay_out(of, width, 15.0, lambda text: 7.0 * len(text), gap)


def of_kind(found: Picture, kind: type) -> list[Any]:
    return [item for item in found.items if isinstance(item, kind)]


def scaled(of: Step | Join) -> float:
    assert isinstance(of, Join)
    return of.stream[0].factor


class TestTrace:
    @pytest.mark.parametrize(
        ("kind", "block"),
        [
            ("pre", (Join(((NORM, ATTENTION),)), Join(((NORM, MLP),)))),
            ("post", (Join(((ATTENTION,),)), NORM, Join(((MLP,),)), NORM)),
            ("double", (Join(((NORM, ATTENTION, NORM),)), Join(((NORM, MLP, NORM),)))),
            ("reordered", (Join(((ATTENTION, NORM),)), Join(((MLP, NORM),)))),
            ("parallel", (Join(((NORM, ATTENTION), (NORM, MLP))),)),
        ],
    )
    def test_norms_sit_where_the_literature_puts_them(self, kind: str, block: Any) -> None:
        assert spec(residual=kind).block == block

    def test_a_shared_norm_is_one(self) -> None:
        shared = RESIDUALS.choose("parallel", shared_norm=True)
        assert spec(residual=shared).block == (Join(((ATTENTION,), (MLP,)), shared=(NORM,)),)

    def test_deepnorm_enlarges_the_stream_by_its_depth(self) -> None:
        block = spec(residual="deepnorm").block
        assert block is not None
        assert [type(s).__name__ for s in block] == ["Join", "Step", "Join", "Step"]
        assert scaled(block[0]) == pytest.approx(60**0.25)

    def test_every_registered_placement_can_be_traced(self) -> None:
        for entry in RESIDUALS:
            assert spec(residual=entry.name).block is not None, entry.name

    @pytest.fixture
    def new_kind(self) -> Iterator[str]:
        @RESIDUALS.register("twice", label="Twice scaled", help="Halves each branch.", source="this test")
        class Twice(Residual):
            def __init__(self, norm: Any, depth: int) -> None:
                super().__init__()
                self.attention_norm, self.mlp_norm = norm(), norm()

            def forward(self, x: Any, attention: Any, mlp: Any) -> Any:
                x = x + 0.5 * attention(self.attention_norm(x))
                return x + mlp(self.mlp_norm(x)) * 0.5

        yield "twice"
        RESIDUALS.unregister("twice")

    def test_a_placement_registered_at_run_time_is_drawn(self, new_kind: str) -> None:
        made = spec(residual=new_kind)
        half = Step("scale", 0.5)
        assert made.block == (Join(((NORM, ATTENTION, half),)), Join(((NORM, MLP, half),)))
        assert [c.text for c in of_kind(picture(made), Chip) if c.role == "scale"] == ["×0.50", "×0.50"]
        assert "Twice scaled" in of_kind(picture(made), Frame)[0].label

    def test_what_symbols_cannot_follow_is_said(self) -> None:
        class Odd:
            def __init__(self, norm: Any, depth: int) -> None: ...

            def forward(self, x: Any, attention: Any, mlp: Any) -> Any:
                return x.chunk(2)

        with pytest.raises(TraceError):
            trace(Odd, 1)


class TestSpec:
    def test_the_hooks_of_a_position_decide_where_it_shows(self) -> None:
        gpt2 = PRESETS["gpt2"].config
        assert [p.title for p in spec(gpt2).added] == ["Learned positions"]
        assert spec().added == ()
        assert "↻ RoPE" in spec().attention.marks
        assert "+ ALiBi" in spec(position="alibi").attention.marks
        nothing = spec(position="none")
        assert nothing.added == ()
        assert nothing.attention.marks == ("no positions",)

    @pytest.mark.parametrize(
        ("changes", "mark"),
        [
            ({"position": "none"}, "no positions"),
            ({"nope_every": 4}, "every 4th without"),
            ({"position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 8.0}}}, "YaRN ×8"),
            ({"position": {"kind": "rope", "rotary_fraction": 0.25}}, "25 % of head"),
            ({"qk_norm": "head"}, "QK-norm per head"),
            ({"qk_norm": "full"}, "QK-norm over all"),
            ({"sliding_window": 64, "full_attention_every": 2}, "every 2nd full"),
            ({"attention_softcap": 50.0}, "soft-cap ±50"),
            ({"attention_scale": 0.0625}, "scores × 0.0625"),
            ({"causal": False}, "↔ both ways"),
            ({"attention_bias": True}, "QKV biases"),
        ],
    )
    def test_what_acts_inside_attention_is_marked(self, changes: dict[str, Any], mark: str) -> None:
        assert mark in spec(**changes).attention.marks
        assert mark not in spec().attention.marks
        assert mark in description(spec(**changes))

    def test_all_that_bert_has_around_its_blocks(self) -> None:
        made = spec(PRESETS["bert-base"].config)
        assert [p.title for p in made.added] == ["Segment embedding", "Learned positions"]
        assert made.embedding_norm is not None
        assert made.transform is not None
        assert made.head.detail.endswith("+ bias")
        assert made.final_norm is None
        found = [b.part.title for b in of_kind(picture(made), Box)]
        assert found[:4] == ["Token embedding", "Segment embedding", "Learned positions", "LayerNorm"]
        assert found[-2:] == ["Head transform", "Output head"]

    def test_factors_and_caps_stand_on_the_stream(self) -> None:
        made = spec(scale_embeddings=True, logit_softcap=30.0)
        assert made.scale == Step("scale", 24.0)
        assert made.softcap is not None
        found = picture(made)
        assert [c.text for c in of_kind(found, Chip) if c.role == "scale"] == ["×24.0"]
        assert of_kind(found, Box)[-1].part.title == "Soft-cap ±30"
        assert spec(position="sinusoidal").scale == made.scale, "the position encoding may scale as well"

    def test_without_norms_none_is_drawn(self) -> None:
        made = spec(norm="none", residual="double")
        assert made.block == (Join(((ATTENTION,),)), Join(((MLP,),)))
        assert made.final_norm is None
        assert not any(b.part.role == "norm" for b in of_kind(picture(made), Box))
        assert "without norms" in made.placement

    def test_the_description_tells_all_of_it(self) -> None:
        told = description(spec(residual="double", sliding_window=4096))
        for words in (
            "30 blocks",
            "Double norm",
            "RMSNorm, attention, RMSNorm",
            "9 query heads on 3",
            "window 4,096",
            "tied to the embedding",
        ):
            assert words in told


class TestLayout:
    @pytest.mark.parametrize(("kind", "norms", "pluses"), [("pre", 3, 2), ("post", 2, 2), ("double", 5, 2), ("parallel", 3, 1)])
    def test_as_many_norms_and_additions_as_the_placement_has(self, kind: str, norms: int, pluses: int) -> None:
        found = picture(spec(residual=kind))
        assert sum(b.part.role == "norm" for b in of_kind(found, Box)) == norms  # the final norm counts
        assert len(of_kind(found, Plus)) == pluses

    def test_norms_on_the_stream_are_wider_than_those_on_a_branch(self) -> None:
        on_stream = next(b for b in of_kind(picture(spec(residual="post")), Box) if b.part.role == "norm")
        on_branch = next(b for b in of_kind(picture(spec(residual="pre")), Box) if b.part.role == "norm")
        assert on_stream.on_stream
        assert not on_branch.on_stream
        assert on_stream.rect.left() < on_branch.rect.left()

    def test_parallel_branches_lie_side_by_side(self) -> None:
        boxes = {b.part.role: b.rect for b in of_kind(picture(spec(residual="parallel")), Box)}
        assert boxes["attention"].right() < boxes["mlp"].left()
        assert boxes["attention"].top() == boxes["mlp"].top()

    def test_grouped_heads_and_the_tie(self) -> None:
        tied = picture(spec())
        heads = of_kind(tied, Heads)[0]
        assert (heads.heads, heads.kv_heads) == (9, 3)
        assert len(of_kind(tied, Tie)) == 1
        assert of_kind(picture(spec(tie_embeddings=False)), Tie) == []

    def test_an_mlp_is_drawn_gated_or_plain(self) -> None:
        assert [s.gated for s in of_kind(picture(spec()), Shape)] == [True]
        assert [s.gated for s in of_kind(picture(spec(mlp="gelu")), Shape)] == [False]

    def test_many_heads_on_one_group_stay_in_their_box(self) -> None:
        size, groups, each = _square(80, 1, 71)
        assert (groups, each * (size + 1) <= 80) == (1, True)
        assert _square(300, 3, 3)[1:] == (3, 3)

    @pytest.mark.parametrize("preset", list(PRESETS))
    @pytest.mark.parametrize("width", [300, 340, 500])
    def test_nothing_overlaps_or_leaves_the_picture(self, preset: str, width: float) -> None:
        config = PRESETS[preset].config
        for kind in RESIDUALS.names():
            found = picture(spec(config, residual=kind, qk_norm="head", sliding_window=64), width)
            boxes = of_kind(found, Box)
            whole = QRectF(0, 0, width, found.height)
            assert all(whole.contains(b.rect) for b in boxes)
            for one in boxes:
                assert not any(other is not one and one.rect.intersects(other.rect) for other in boxes), (kind, one)
            around = next(b.rect for b in boxes if b.part.role == "attention")
            assert all(around.contains(c.rect) for c in of_kind(found, Chip) if c.role == "mark")

    def test_it_closes_up_before_it_shrinks(self) -> None:
        loose, tight = picture(spec(), gap=GAPS[0]), picture(spec(), gap=GAPS[-1])
        assert best_fit(spec(), 340, loose.height, 15, lambda t: 7.0 * len(t))[1] == 1
        assert best_fit(spec(), 340, tight.height + 1, 15, lambda t: 7.0 * len(t))[1] == 1
        small, scale = best_fit(spec(), 340, tight.height * 0.8, 15, lambda t: 7.0 * len(t))
        assert scale < 1
        assert small.height * scale <= tight.height * 0.8 + 1


class TestView:
    @pytest.fixture
    def view(self, services: Services, qtbot: QtBot) -> DiagramView:
        made = DiagramView(services.notify)
        qtbot.addWidget(made)
        made.resize(340, 330)
        made.show_spec(spec())
        with qtbot.waitExposed(made):
            made.show()
        return made

    def test_it_paints_in_both_themes(self, view: DiagramView, services: Services) -> None:
        services.theme.set_mode("light")
        light = view.grab().toImage()
        services.theme.set_mode("dark")
        dark = view.grab().toImage()
        assert light.pixelColor(2, 2).lightness() > 200 > 60 > dark.pixelColor(2, 2).lightness()
        colours = {light.pixel(x, y) for x in range(0, light.width(), 3) for y in range(0, light.height(), 3)}
        assert len(colours) > 30

    def test_what_differs_from_the_reference_is_marked(self, view: DiagramView) -> None:
        view.show_spec(spec(residual="post", position="alibi", tie_embeddings=False), spec())
        assert view.changed_parts == {"block", "attention", "head"}
        view.show_spec(spec())
        assert view.changed_parts == frozenset()

    def test_it_is_told_to_those_who_cannot_see_it(self, view: DiagramView) -> None:
        assert view.accessibleName()
        assert "9 query heads" in view.accessibleDescription()

    @pytest.mark.qt_log_ignore("This plugin does not support", extend=True)  # the offscreen plugin says so about popups
    def test_a_part_explains_itself_under_the_mouse(self, view: DiagramView) -> None:
        shown = view.picture()
        assert shown is not None
        box = next(i for i in shown[0].items if isinstance(i, Box) and i.part.role == "mlp")
        offset = max(0.0, (view.height() - shown[0].height) / 2)
        where = QPoint(round(box.rect.center().x()), round(box.rect.center().y() + offset))
        part = view.part_at(QPointF(where))
        assert part is not None
        assert part.role == "mlp"
        QApplication.sendEvent(view, QHelpEvent(QEvent.Type.ToolTip, where, view.mapToGlobal(where)))
        assert "3 matrices" in QToolTip.text()
        assert view.part_at(QPointF(1, 1)) is None
        QToolTip.hideText()

    @pytest.mark.parametrize("suffix", ["svg", "png"])
    def test_it_can_be_saved(self, view: DiagramView, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"block.{suffix}"
        view.save(path)
        if suffix == "svg":
            assert "SwiGLU" in path.read_text(encoding="utf-8")
            assert QSvgRenderer(str(path)).isValid()
            width = float(path.read_text(encoding="utf-8").partition('width="')[2].partition("mm")[0])
            assert width == pytest.approx(420 / view.logicalDpiY() * 25.4, abs=0.1), "else words are smaller than their boxes"
        else:
            assert QImage(str(path)).width() == 1260

    def test_a_place_that_cannot_be_written_is_said(self, view: DiagramView, tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"no.*block\.png could not be written"):
            view.save(tmp_path / "no" / "block.png")

    @pytest.mark.qt_log_ignore("This plugin does not support", extend=True)  # the offscreen plugin says so about popups
    def test_its_menu_opens_by_keyboard(self, view: DiagramView, qtbot: QtBot) -> None:
        qtbot.keyClick(view, Qt.Key.Key_Return)
        popup = QApplication.activePopupWidget()
        assert popup is not None
        assert [a.text() for a in popup.actions()] == ["Save as SVG…", "Save as PNG…", "Copy the picture"]
        popup.actions()[2].trigger()
        assert not QApplication.clipboard().image().isNull()
        popup.close()

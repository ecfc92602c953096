"""The drawing of two towers: boxes from their inputs up to the dot product in which they meet, and its page."""

from __future__ import annotations

import pathlib
import textwrap
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config

from ..report.document import Tile, render
from ..report.drawing import shorten
from ..report.palette import SETTINGS, UNIT, Plot, colour
from ..report.tables import HtmlTable, config_table, facts_table
from .facts import HEADER, Inspection, bytes_text, shape_text
from .outline import Part

WIDTH, COLUMN = 720, 346  # points
LINE, GAP, PADDING, TITLE = (
    38,
    16,
    8,
    22,
)  # height of a box, gap between boxes, padding of a frame, height of its heading
BUS, MEETING = 26, 50  # height of the lines between towers and score, and of the score
ACCENTS = {"query_tower": "model", "candidate_tower": "green"}
A_CHARACTER = 4.9  # points, on average; longer texts are cut


class Block(NamedTuple):
    """A box, or a frame with blocks in it.

    Attributes:
      part: the part that it shows.
      blocks: inside, from the bottom up; () for a box.
      chained: whether each block reads the block below it; else all of them are read by the block above the frame.
    """

    part: Part
    blocks: tuple[Block, ...] = ()
    chained: bool = False

    @property
    def gap(self) -> float:
        """Points between its blocks."""
        return GAP if self.chained else GAP / 2

    @property
    def height(self) -> float:
        """Height in points."""
        if not self.blocks:
            return LINE
        return TITLE + PADDING + sum(block.height for block in self.blocks) + self.gap * (len(self.blocks) - 1)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the part, or of all blocks in the frame."""
        return self.part.num_parameters or sum(block.num_parameters for block in self.blocks)


def write_towers(config: Config, inspection: Inspection, path: pathlib.Path) -> None:
    """Writes the page of the drawing: one file that needs no network."""
    root = inspection.root
    tiles = [Tile("parameters", f"{root.num_parameters:,}", [bytes_text(root.num_bytes)])]
    tiles += [Tile(part.name.replace("_", " "), f"{part.num_parameters:,}", [part.kind]) for part in root.parts]
    rows = [[cell.replace("  ", "\u2003") for cell in row] for row in inspection.rows()]  # HTML keeps it
    with mpl.rc_context(SETTINGS):
        page = render(
            "inspection/towers.html",
            title=f"Towers of {config.name or 'an unnamed config'}",
            subtitle=inspection.facts["data"],
            tiles=tiles,
            drawing=draw(inspection),
            facts=facts_table(inspection.facts),
            rows=HtmlTable(HEADER, rows, "parts"),
            config=config_table(config),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)


def draw(inspection: Inspection) -> Plot:
    """Returns the drawing, in two columns."""
    root = inspection.root
    towers = [tower_block(part) for part in root.parts if part.path in ACCENTS]
    below = max(tower.height for tower in towers)
    height = below + BUS + MEETING + 2 * PADDING
    figure = Figure(figsize=(WIDTH * UNIT, height * UNIT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.set_axis_off()
    canvas = _Canvas(axes, inspection)
    top = PADDING + below
    for x, tower in zip((2, WIDTH - COLUMN - 2), towers, strict=True):
        canvas.place(tower, x, top - tower.height, COLUMN, ACCENTS[tower.part.path], 0)
        canvas.rise(x + COLUMN / 2, top, top + BUS / 2, arrow=False)
    canvas.meet(top + BUS / 2, top + BUS)
    caption = (
        "From the inputs of each tower, at the bottom, to the score, at the top. The line under a box is its share of "
        "all parameters; their number is on the right."
    )
    return Plot("towers", "Two towers", caption, figure)


def tower_block(part: Part) -> Block:
    """Returns the blocks of a tower; parts that are computed side by side stand in a frame of their own."""
    if part.kind == "HistoryTower":
        branches = (_history(part), *(_branch(inner) for inner in part.parts[3:] if inner.name != "combine"))
        combined = tuple(Block(inner) for inner in part.parts[3:] if inner.name == "combine")
        together = Block(Part("read side by side", f"{part.path}/*", ""), branches)
        return Block(part, (together, *combined) if combined else branches, chained=True)
    if part.kind == "FeatureTower":
        features = tuple(Block(inner) for inner in part.parts if inner.kind in ("Lookup", "Dense"))
        after = tuple(_branch(inner) for inner in part.parts[len(features) :])
        together = Block(Part("features", f"{part.path}/*", ""), features)
        return Block(part, (together if len(features) > 1 else features[0], *after), chained=True)
    return Block(part, tuple(Block(inner) for inner in part.parts), chained=True)


def _history(part: Part) -> Block:
    items, tokens, encoder = part.parts[:3]
    return Block(Part("history", f"{part.path}/*", ""), (Block(items), Block(tokens), _branch(encoder)), chained=True)


def _branch(part: Part) -> Block:
    return tower_block(part) if part.parts else Block(part)


def _output(part: Part) -> str:
    return f" → {shape_text(part.output)}" if part.output else ""


class _Canvas:
    """Draws blocks on axes in points."""

    def __init__(self, axes: Axes, inspection: Inspection):
        self.axes, self.inspection = axes, inspection
        self.total = max(inspection.root.num_parameters, 1)

    def place(self, block: Block, x: float, y: float, width: float, accent: str, depth: int) -> None:
        """Draws a block with its lower left corner at (x, y)."""
        if not block.blocks:
            self.box(block.part, x, y, width, accent)
            return
        self.rectangle(x, y, width, block.height, "ground" if depth % 2 == 0 else "paper")
        self.heading(block, x, y + block.height - TITLE / 2, width, accent)
        bottom = y + PADDING
        for i, inner in enumerate(block.blocks):
            self.place(inner, x + PADDING, bottom, width - 2 * PADDING, accent, depth + 1)
            bottom += inner.height + block.gap
            if block.chained and i + 1 < len(block.blocks):
                self.rise(x + width / 2, bottom - block.gap, bottom)

    def heading(self, block: Block, x: float, y: float, width: float, accent: str) -> None:
        """Writes the line above the blocks of a frame."""
        part, number = block.part, block.num_parameters
        self.text(x + PADDING, y, part.name.replace("_", " "), colour(accent), "bold")
        words = ", ".join(filter(None, [part.kind, part.detail]))
        words = shorten(words, int(width / A_CHARACTER) - 36) + _output(part)
        words = " · ".join(filter(None, [words, f"{number:,}" if number else ""]))
        self.text(x + width - PADDING, y, words, colour("muted"), align="right")

    def box(self, part: Part, x: float, y: float, width: float, accent: str) -> None:
        """Draws a box of two lines: name and number of parameters, and the details of the part."""
        self.rectangle(x, y, width, LINE, "soft" if part.num_parameters else "paper")
        words = f"{part.kind} {part.detail}" if part.kind in ("sum", "concat") else self.inspection.text(part)
        shapes = ", ".join(shape_text(leaf.shape) for leaf in part.own.values() if len(leaf.shape) > 1)
        words = "; ".join(filter(None, [words or part.kind, shapes]))
        room = int((width - 16) / A_CHARACTER) - len(_output(part))
        self.text(x + 8, y + 11, shorten(words, room) + _output(part), colour("muted"))
        self.title(part, x, y + LINE - 12, width)
        if part.num_parameters:
            share = (width - 16) * part.num_parameters / self.total
            self.axes.add_patch(Rectangle((x + 8, y + 1.6), max(share, 1), 2.2, facecolor=colour(accent), linewidth=0))

    def title(self, part: Part, x: float, y: float, width: float) -> None:
        """Writes the first line of a box: the name, and the number of parameters."""
        self.text(x + 8, y, shorten(part.name, int(width / 8)), colour("ink"), "bold")
        if part.num_parameters:
            self.text(x + width - 8, y, f"{part.num_parameters:,}", colour("ink"), align="right")

    def meet(self, bus: float, y: float) -> None:
        """Draws the score and the heads, which all read both towers, above the line that joins the towers."""
        left, right = 2 + COLUMN / 2, WIDTH - 2 - COLUMN / 2
        self.axes.plot([left, right], [bus, bus], color=colour("muted"), linewidth=1.2)
        root = self.inspection.root
        heads = [part for part in root.parts if part.path.startswith("heads/")]
        bias = tuple(part for part in root.parts if part.path == "candidate_bias")
        named, _, words = self.inspection.facts["score"].partition(": ")
        score = Part(named, "", "", words, parts=bias, own=root.own)
        room = WIDTH - 4 - PADDING * len(heads)
        widths = [room * (0.5 if heads else 1.0), *[room * 0.5 / max(len(heads), 1)] * len(heads)]
        x = 2.0
        for part, width in zip((score, *heads), widths, strict=True):
            self.rectangle(x, y, width, MEETING, "soft" if part.num_parameters else "paper")
            self.title(part, x, y + MEETING - 12, width)
            lines = textwrap.wrap(part.detail or part.kind, int((width - 16) / A_CHARACTER))[:2]
            for i, line in enumerate(lines):
                self.text(x + 8, y + MEETING - 27 - 12 * i, line, colour("muted"))
            self.rise(min(max(x + width / 2, left), right), bus, y)
            x += width + PADDING

    def rise(self, x: float, bottom: float, top: float, *, arrow: bool = True) -> None:
        """Draws a line upwards."""
        style = {"arrowstyle": "-|>,head_width=0.16,head_length=0.3" if arrow else "-", "color": colour("muted")}
        style |= {"linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", (x, top), (x, bottom), arrowprops=style)

    def rectangle(self, x: float, y: float, width: float, height: float, role: str) -> None:
        """Draws a rectangle with round corners."""
        style = {"boxstyle": "round,pad=0,rounding_size=5", "edgecolor": colour("line"), "linewidth": 1.0}
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, facecolor=colour(role), **style))

    def text(self, x: float, y: float, text: str, ink: str, weight: str = "normal", align: str = "left") -> None:
        """Writes a line whose middle is at y."""
        self.axes.text(x, y, text, color=ink, fontsize=9.5, ha=align, va="center", fontweight=weight)

"Figures that can be read: contrast in both themes, labels that cover nothing, and words that say what is seen."
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ncib.base import short_names
from ncib.frames import checkpoint_frames
from ncib.plots import (
    _Names,
    place_labels,
    plot_accuracy,
    plot_collapse,
    plot_cosines,
    plot_frame,
    plot_gap,
    plot_information,
    plot_matrices,
    plot_sensitivity,
    plot_shortfall,
    plot_transitions,
    themed_svg,
)
from ncib.report import explained, figure_words, glossary, report_html

PLOTS = (plot_accuracy, plot_collapse, plot_cosines, plot_gap, plot_information, plot_sensitivity, plot_shortfall,
         plot_transitions)
SVG = "{http://www.w3.org/2000/svg}"


def luminance(hex):
    c = np.array([int(hex[i:i + 2], 16)/255 for i in (1, 3, 5)])
    return np.where(c <= .04045, c/12.92, ((c + .055)/1.055)**2.4) @ (.2126, .7152, .0722)


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + .05)/(low + .05)


def mixed(colour, ground, opacity):
    return "#" + "".join(f"{round(opacity*int(colour[i:i + 2], 16) + (1 - opacity)*int(ground[i:i + 2], 16)):02x}"
                         for i in (1, 3, 5))


def themes(svg):
    "Both rules of the drawing: what every variable is on a light and on a dark page."
    rules = re.search(r"<style>svg\{(.*?);fill:var\(--ink\)\}@media screen and "
                      r"\(prefers-color-scheme:dark\)\{svg\{(.*?)\}\}</style>", svg).groups()
    return [dict(re.findall(r"--(\w+):(#\w{6})", rule)) for rule in rules]


def data_marks(svg):
    """Style of every line and marker that carries data: what is clipped to the axes, without the grid; and of the
    legends' samples."""
    for e in ET.fromstring(svg).iter(f"{SVG}g"):
        if e.get("id", "").startswith(("line2d", "PathCollection", "FillBetweenPolyCollection")):
            for g in [e, *e.iter(f"{SVG}g")]:
                for one in [*g.findall(f"{SVG}path"), *(g.findall(f"{SVG}use") if g.get("clip-path") else [])]:
                    style = dict(re.findall(r"([\w-]+): ([^;]+)", one.get("style", "")))
                    if (one.get("clip-path") or g.get("clip-path")) and style.get("stroke") != "var(--grid)":
                        yield style


@pytest.mark.parametrize("plot", PLOTS)
def test_contrast_in_both_themes(short_timeline, plot):
    "What carries data stands out at least 3 : 1 from the page, be it light or dark: by its line or by its filling."
    svg, seen = themed_svg(plot(short_timeline)), 0
    for theme in themes(svg):
        resolve = lambda v: theme[v[6:-1]] if v.startswith("var(") else v
        for style in data_marks(svg):
            parts = [mixed(resolve(v), theme["paper"],
                           float(style.get("opacity", 1))*float(style.get(f"{k}-opacity", 1)))
                     for k, v in (("stroke", style.get("stroke", "none")), ("fill", style.get("fill", "var(--ink)")))
                     if v != "none"]
            if parts: assert max(contrast(p, theme["paper"]) for p in parts) >= 3, style; seen += 1
        assert contrast(theme["ink"], theme["paper"]) > 12
    assert seen > 8 or plot is plot_cosines


def test_one_drawing_and_the_same_bytes(short_timeline):
    import pandas as pd
    one = themed_svg(plot_shortfall(short_timeline))
    assert one == themed_svg(plot_shortfall(short_timeline)) and not re.search(r": #(000000|ffffff)\b", one)
    names = ["one", "other"]
    cells = themed_svg(plot_matrices({"m": pd.DataFrame([[1, .2], [.2, 1.]], names, names),
                                      "n": pd.DataFrame([[1, .9], [.9, 1.]], names, names)}, "similarity"))
    assert re.search("fill: #(010101|fefefe)", cells)                # numbers on a coloured cell do not follow the page


def overlap(a, b): return (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min()


def boxes(centres, sizes):
    return np.concatenate([np.asarray(centres) - np.asarray(sizes)/2, np.asarray(centres) + np.asarray(sizes)/2], 1)


def test_labels_cover_nothing():
    """Crowds of points, among them equal ones: no label on another, on a mark or outside; a lone point keeps its label
    at its side."""
    g = np.random.default_rng(0)
    for k, spread in ((1, 1), (10, 90), (10, 14), (10, 0), (20, 30)):
        points, sizes = 150 + spread*g.normal(size=(k, 2)).clip(-1.5, 1.5), np.c_[g.uniform(7, 30, k), np.full(k, 14.)]
        centres, led = place_labels(points, sizes, (0, 0, 300, 300))
        b, marks = boxes(centres, sizes), boxes(points, np.full((k, 2), 12.))
        assert (all(overlap(b[i], b[j]) <= 1e-6 for i in range(k) for j in range(i))
                and all(overlap(x, m) <= 1e-6 for x in b for m in marks))
        assert b.min() >= 0 and b.max() <= 300 and led.dtype == bool
        if k == 1: assert not led[0] and np.abs(centres - points).max() < 30
        if spread == 0: assert led.any()


@pytest.mark.parametrize("view", ["all", "chosen"])
def test_names_of_the_class_means_on_paper(short_timeline, view):
    "In the exported figure, at every checkpoint, in the plane and in three dimensions."
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    frames = checkpoint_frames(short_timeline.of("backbone"))
    for epoch in (0, 3):
        figure = plot_frame(frames, epoch, view=view)
        canvas = FigureCanvasAgg(figure); canvas.draw()
        names = next(a for a in figure.findobj(_Names))
        placed = np.array([t.get_window_extent(canvas.get_renderer()).extents for t in names.texts])
        assert [t.get_text() for t in names.texts] == (frames.classes if view == "all"
                                                       else [frames.classes[c] for c in frames.chosen])
        assert all(overlap(placed[i], placed[j]) < .6 for i in range(len(placed)) for j in range(i))


@pytest.mark.parametrize("layer", ["backbone", "head"])
def test_alternative_texts_have_the_numbers(short_timeline, layer):
    t = short_timeline.of(layer)
    said, table = {plot: figure_words(plot.__name__.removeprefix("plot_"), t) for plot in PLOTS}, t.table
    assert (len({*said.values()}) == len(PLOTS)
            and not any("nan" in s or "epoch 3, the only" in s for s in said.values()))
    share = lambda v: f"{100*v:.1f} %"
    for side in "ab":
        assert (f"goes from {share(table[f'test_accuracy_{side}'].iloc[0])} to "
                f"{share(table[f'test_accuracy_{side}'].iloc[-1])}" in said[plot_accuracy])
    assert (f"NC1 goes from {t.mean('train_nc1')[0]:.3g} to {t.mean('train_nc1')[-1]:.3g} on train "
            f"features" in said[plot_collapse])
    c = np.asarray(t.arrays[-1]["train_cosines_a"])
    off = c[~np.eye(10, dtype=bool)]
    assert (f"Epoch 3: from {off.min():.2f} to {off.max():.2f}, on average {np.abs(off + 1/9).mean():.2f} from the "
            f"ideal" in said[plot_cosines])
    assert (f"transitions goes from {table['test_twin_count'].iloc[0]:.3g} to "
            f"{table['test_twin_count'].iloc[-1]:.3g}" in said[plot_transitions])
    page = report_html(t)
    import html
    assert all(html.escape(s) in page for s in said.values())


def test_findings_are_explained_once():
    made = explained(["NC1 2.18 at 95% (95 %: 1 to 2), a simplex ETF.", "NC1 <again> & two modes at β_c."])
    assert (made[0].count('class="plain"') == 2 and made[1].count('class="plain"') == 2 and "NC1:" not in made[1]
            and "&lt;again&gt; &amp;" in made[1])
    assert '<abbr title="' in made[1] and made[1].count("<abbr") == 3 and "95\u00a0% (95\u00a0%:" in made[0]
    assert all(len(re.findall(r"\.(?:\s|$)", t.sentence)) == 1 and len(t.sentence.split()) <= 30 for t in glossary())


def test_short_names():
    assert (short_names(["runs/a", "runs/b"]) == ["a", "b"] and short_names(["x/e.npy", "y/e.npy"]) == ["x/e", "y/e"]
            and short_names(["a", "a"]) == ["a", "a"])

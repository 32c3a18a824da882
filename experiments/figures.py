"""Figures of an experiment: a pair's timeline, and one picture for each claim that is about many pairs."""
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

import claims
from ncib.plots import colours, plot_accuracy, plot_collapse, plot_cosines, plot_gap, plot_information, plot_transitions
from ncib.timeline import Timeline

OF_A_PAIR = {"accuracy": plot_accuracy, "collapse": plot_collapse, "cosines": plot_cosines, "transitions": plot_transitions, "information": plot_information, "gap": plot_gap}
PALETTE = [c for n, c in colours.items() if n != "grey"]
MARKERS = "osD^vP"


def _axes(columns: int, height: float = 3.2):
    fig = Figure(figsize=(7.2, height), layout="constrained")
    return fig, np.atleast_1d(fig.subplots(1, columns))

def _tidy(ax, xlabel, ylabel, title=None):
    ax.set_xlabel(xlabel); ax.set_ylabel(ylabel)
    if title: ax.set_title(title, fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, alpha=.25, linewidth=.6)

def _epochs(ax, epochs, ticks=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)):
    ax.set_xscale("symlog", linthresh=1, linscale=.4)
    ticks = [e for e in ticks if e <= max(epochs)]
    ax.set_xlim(-.15, max(epochs)*1.15 + .1)
    ax.xaxis.set_major_locator(FixedLocator(ticks)); ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))

def _over_epochs(ax, table, column, colour, label, style="o-"):
    "Mean over pairs, band from the smallest to the largest."
    g = table.groupby("epoch")[column]
    mean, low, high = g.mean(), g.min(), g.max()
    ax.plot(mean.index, mean, style, ms=3.5, color=colours[colour], label=label)
    ax.fill_between(mean.index, low, high, color=colours[colour], alpha=.2, linewidth=0)

def _styles(names): # filled for the main condition
    "A marker and a colour for each name, different for up to 36 of them."
    for i, n in enumerate(names):
        colour = PALETTE[i%len(PALETTE)]
        yield {"marker": MARKERS[(i + i//len(PALETTE))%len(MARKERS)], "color": colour, "mfc": colour if n == "main" else "none", "ms": 6 if n == "main" else 4.5, "zorder": 3 if n == "main" else 2, "linestyle": "none", "label": _name(n)}

def _name(condition: str)->str:
    return condition.replace("=", " ").replace("label_noise", "label noise").replace("feature_dim", "feature dim.").replace("loss ", "").replace("label noise 0,augmentation none", "no augmentation").replace(",augmentation none", ", no augm.")


def identifiability(table: pd.DataFrame, cross: pd.DataFrame)->Figure:
    "Held-out R² over epochs, of the features and within classes; beside them pairs with encoders trained by another loss."
    fig, axes = _axes(2)
    main = claims.part(table)
    last = main.epoch.max()
    for ax, name, title in zip(axes, ("r2", "r2_within"), ("all of the features", "within classes")):
        lower = main.assign(v=main[[f"{name}_forward", f"{name}_backward"]].min(axis=1))
        _over_epochs(ax, lower, "v", "blue", "two encoders, same loss")
        _epochs(ax, main.epoch)
        for (kind, g), colour, marker in zip(cross.groupby("kind"), ("vermillion", "green"), "sD"):
            ax.plot([last]*len(g), g[[f"{name}_forward", f"{name}_backward"]].min(axis=1), marker, ms=5, mfc="white", color=colours[colour], label=kind)
        if name == "r2": ax.axhline(claims.IDENTIFIED, color=colours["grey"], linestyle="--", linewidth=.9, label="level of the rule")
        _tidy(ax, "epoch", "held-out R², lower direction", title)
    fig.legend(*axes[0].get_legend_handles_labels(), fontsize="x-small", ncols=4, loc="outside lower center", frameon=False)
    return fig


def coincidence(table: pd.DataFrame, num_classes: int)->"Figure|None": # nothing if no pair has both epochs
    "Epoch of the plateau against the first epoch from which the transition count stays at K − 1, one dot per pair, all conditions; scattered by up to 6 % so that equal ones are seen."
    fig, axes = _axes(2, 3.8)
    plain = table[(table.layer == "backbone") & ~table.copula.astype(bool)]
    drawn = False
    for ax, clear, title in zip(axes, (False, True), ("count stays at K − 1 or above", "exactly K − 1, with a clear gap")):
        rng, seen = np.random.default_rng(0), []
        for (_, g), style in zip(plain.groupby("condition", sort=False), _styles(plain.condition.unique())):
            points = [(claims.plateau(p), claims.transitions(p, num_classes - 1, clear)) for p in claims.pairs(g)]
            points = np.array([p for p in points if None not in p], dtype=float).reshape(-1, 2)
            if not len(points): continue
            seen.append(points)
            jitter = np.exp(rng.uniform(-.06, .06, points.shape))
            ax.plot(*((points + 1)*jitter).T, **style)
        drawn = drawn or bool(seen)
        top = max((p.max() for p in seen), default=10.) + 1
        ax.plot([1, top*1.2], [1, top*1.2], color="black", linewidth=.6, linestyle=":")
        ax.set_xscale("log"); ax.set_yscale("log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(FixedLocator([v + 1 for v in (0, 1, 2, 5, 10, 20, 35, 60, 100, 200, 500)])); axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v - 1:g}"))
        ax.set_xlim(.9, top*1.25); ax.set_ylim(.9, top*1.25)
        _tidy(ax, "epoch at which the plateau begins", "epoch of the transitions", title)
    if not drawn: return None
    handles = {l: h for ax in axes for h, l in zip(*ax.get_legend_handles_labels())}
    fig.legend(handles.values(), handles.keys(), fontsize="x-small", ncols=4, loc="outside lower center", frameon=False)
    return fig


def packing(table: pd.DataFrame)->Figure:
    "Isotropy, Gaussianity and excess rate over epochs, with the levels of the rule."
    fig, axes = _axes(3, 2.8)
    main = claims.part(table)
    main = main.assign(ratio=main.sliced_wasserstein/main.sliced_wasserstein_reference)
    panels = (([("condition_number", "blue", None)], claims.CONDITION, "condition number\nof the class means"),
              ([("ratio", "blue", "features"), ("code_sliced_wasserstein_ratio", "orange", "noisy code T(β)")], claims.GAUSSIAN, "distance from a Gaussian\n(Gaussian sample: 1)"),
              ([("excess_rate", "blue", None)], claims.EXCESS, "excess rate of the class means\n(share of the optimal rate)"))
    for ax, (series, limit, label) in zip(axes, panels):
        for column, colour, name in series:
            if main[column].notna().any(): _over_epochs(ax, main.dropna(subset=[column]), column, colour, name)
        ax.axhline(limit, color=colours["grey"], linestyle="--", linewidth=.9)
        if ax is axes[1]: ax.set_ylim(bottom=0)
        else: ax.set_yscale("log"); ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}")); ax.yaxis.set_minor_formatter(NullFormatter())
        _tidy(ax, "epoch", label)
    axes[1].legend(fontsize="x-small")
    for ax in axes: _epochs(ax, main.epoch, (0, 1, 3, 10, 30, 100, 300, 1000))
    return fig


def generalisation(table: pd.DataFrame)->"Figure|None": # nothing without conditions to compare
    "Test error against three predictors: every pair's last checkpoint, by condition."
    last = claims.ends(table[(table.layer == "backbone") & ~table.copula.astype(bool)])
    if last.condition.nunique() < 2: return None
    fig, axes = _axes(3, 3.6)
    for ax, (column, label, log) in zip(axes, (("test_ib_gap", "IB gap, twin (test)", False), ("test_paired_ib_gap", "IB gap, class-paired (test)", False), ("train_nc1", "NC1 (train)", True))):
        for (_, g), style in zip(last.groupby("condition", sort=False), _styles(last.condition.unique())): ax.plot(g[column], 100*(1 - g.test_accuracy), **style)
        ax.set_yscale("log"); ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}")); ax.yaxis.set_minor_formatter(NullFormatter())
        if log: ax.set_xscale("log")
        _tidy(ax, label, "test error (%)" if ax is axes[0] else "")
    fig.legend(*axes[0].get_legend_handles_labels(), fontsize="x-small", ncols=4, loc="outside lower center", frameon=False)
    return fig


def draw(timeline: Timeline, # of the first pair of the main condition
         table: pd.DataFrame, cross: pd.DataFrame, num_classes: int)->dict[str, Figure]: # by name
    "All figures that have something to show."
    figures = {**{name: plot(timeline) for name, plot in OF_A_PAIR.items()}, "c2": identifiability(table, cross), "c4": coincidence(table, num_classes), "c5": packing(table), "c6": generalisation(table)}
    return {name: figure for name, figure in figures.items() if figure is not None}

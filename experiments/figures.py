"""Figures of an experiment: a pair's timeline, and one picture for each claim."""
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

import claims
from ncib.plots import (colours, plot_accuracy, plot_collapse, plot_cosines, plot_gap, plot_information,
                        plot_transitions)
from ncib.timeline import Timeline

OF_A_PAIR = {"accuracy": plot_accuracy, "collapse": plot_collapse, "cosines": plot_cosines,
             "transitions": plot_transitions, "information": plot_information, "gap": plot_gap}
PALETTE = [c for n, c in colours.items() if n != "grey"]
MARKERS = "osD^vP"
NEAR_ONE = ("gaussian_ratio", "within_kurtosis_ratio") # ratios that are drawn on a linear axis
COLOUR_OF = dict(zip(claims.LAYERS, ("blue", "vermillion"))) # of a layer, in every picture


def _axes(columns: int, height: float = 3.2):
    fig = Figure(figsize=(7.2, height), layout="constrained")
    return fig, np.atleast_1d(fig.subplots(1, columns))

def _tidy(ax, xlabel, ylabel, title=None):
    ax.set_xlabel(xlabel); ax.set_ylabel(ylabel)
    if title: ax.set_title(title, fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, alpha=.25, linewidth=.6)

def _epochs(ax, epochs, ticks=(0, 1, 3, 10, 30, 100, 300, 1000)):
    ax.set_xscale("symlog", linthresh=1, linscale=.4)
    ticks = [e for e in ticks if e <= max(epochs)]
    ax.set_xlim(-.15, max(epochs)*1.15 + .1)
    ax.xaxis.set_major_locator(FixedLocator(ticks)); ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))

def _log(ax, *which):
    for axis in which:
        getattr(ax, f"set_{axis}scale")("log")
        of = getattr(ax, f"{axis}axis")
        low, high = getattr(ax, f"get_{axis}lim")()
        subs = (1,) if high > 1000*low else (1, 3) if high > 30*low else (1, 2, 3, 5) # so that labels have room
        of.set_major_locator(LogLocator(subs=subs) if high > 2*low else MaxNLocator(4)) # else too many without a power
        of.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}")); of.set_minor_formatter(NullFormatter())

def _over_epochs(ax, table, column, colour, label, style="o-"):
    "Mean over pairs, band from the smallest to the largest."
    g = table.dropna(subset=[column]).groupby("epoch")[column]
    mean, low, high = g.mean(), g.min(), g.max()
    ax.plot(mean.index, mean, style, ms=3.5, color=colours[colour], label=label)
    ax.fill_between(mean.index, low, high, color=colours[colour], alpha=.2, linewidth=0)

def _level(ax, value, label="level of the rule"):
    ax.axhline(value, color=colours["grey"], linestyle="--", linewidth=.9, label=label)

def _legend(fig, axes, columns=4):
    handles = {l: h for ax in axes for h, l in zip(*ax.get_legend_handles_labels())}
    where = {"loc": "outside lower center", "frameon": False}
    fig.legend(handles.values(), handles.keys(), fontsize="x-small", ncols=columns, **where)

def _styles(names): # filled for the main condition
    "A marker and a colour for each name, different for up to 36 of them."
    for i, n in enumerate(names):
        colour = PALETTE[i%len(PALETTE)]
        yield {"marker": MARKERS[(i + i//len(PALETTE))%len(MARKERS)], "color": colour,
               "mfc": colour if n == "main" else "none", "ms": 6 if n == "main" else 4.5,
               "zorder": 3 if n == "main" else 2, "linestyle": "none", "label": _name(n)}

def _name(condition: str)->str:
    for old, new in (("label_noise=0,augmentation=none", "no augmentation"), ("augmentation=none", "no augm."),
                     ("=", " "), (",", ", "), ("label_noise", "label noise"), ("feature_dim", "feature dim."),
                     ("loss ", ""), ("train_size", "images"), ("batch_size", "batch")):
        condition = condition.replace(old, new)
    return condition

def _by_layer(table: pd.DataFrame, *columns: str): # layer, rows, colour
    "The main condition's layers in which the columns are filled."
    for layer in claims.layers(table):
        rows = claims.part(table, layer=layer)
        if not claims.lacking(rows, columns): yield layer, rows, COLOUR_OF[layer]

def _panels(table: pd.DataFrame, panels, # column, levels, label
            height: float = 3.)->"Figure|None":
    "Columns over epochs, one panel each, all layers; nothing if the table has none of them."
    panels = [p for p in panels if any(_by_layer(table, p[0]))]
    if not panels: return None
    fig, axes = _axes(len(panels), height)
    for ax, (column, levels, label) in zip(axes, panels):
        for layer, rows, colour in _by_layer(table, column): _over_epochs(ax, rows, column, colour, layer)
        for v in levels: _level(ax, v)
        if column not in NEAR_ONE: _log(ax, "y")
        _epochs(ax, table.epoch)
        _tidy(ax, "epoch", label)
    _legend(fig, axes)
    return fig


def collapse(table: pd.DataFrame)->"Figure|None":
    "C1: NC1 and distance from a simplex over epochs, of backbone and head; beside them the distance in white noise."
    level = [claims.COLLAPSED]
    return _panels(table, (("train_nc1", level, "NC1, training features"),
                           ("train_etf_error", level, "distance from a simplex ETF"),
                           ("train_whitened_etf_error", level, "the same, noise within\nclasses made white")))


def identifiability(table: pd.DataFrame, cross: pd.DataFrame)->"Figure|None":
    "C2: held-out R² over epochs beside what labels alone explain, and the share of the rest, beside other losses."
    layers = [v for v in _by_layer(table, "r2_forward")]
    if not layers: return None
    beyond = any(_by_layer(table, "r2_beyond_forward"))
    fig, axes = _axes(2 if beyond else 1, 3.4)
    last, markers = table.epoch.max(), dict(zip(sorted({*cross.get("kind", ())}), "D^vP"))
    for ax, names in zip(axes, (("r2", "r2_labels"), ("r2_beyond",))):
        for layer, rows, colour in layers:
            for name, style in zip(names, ("o-", "s:")):
                if f"{name}_forward" not in rows: continue
                label = layer + (", from labels alone" if name == "r2_labels" else ", from the twin")
                _over_epochs(ax, rows.assign(v=claims.lower(rows, name)), "v", colour, label, style)
            here = cross[cross.layer == layer] if "layer" in cross else cross[:len(cross) if layer == "backbone" else 0]
            for kind, g in here.groupby("kind"):
                if f"{names[0]}_forward" not in g: continue
                ax.plot([last]*len(g), claims.lower(g, names[0]), markers[kind], ms=4.5, mfc="white",
                        color=colours[colour], linestyle="none", label=f"{layer}, {kind}")
        _level(ax, claims.BEYOND if names[0] == "r2_beyond" else claims.IDENTIFIED)
        _epochs(ax, table.epoch)
        ax.set_ylim(top=1.02)
        share = "share of what labels leave open" if names[0] == "r2_beyond" else "held-out R², lower direction"
        _tidy(ax, "epoch", share)
        # encoders of another loss: where there is nothing to tell
        if ax.get_ylim()[0] < -1:
            for line in ax.lines: line.set_ydata(np.maximum(np.asarray(line.get_ydata(), dtype=float), -1.))
            ax.set_ylim(-1.05, 1.05); ax.set_ylabel(share + "\n(−1: that or less)")
    _legend(fig, axes, 3)
    return fig


def transitions(table: pd.DataFrame)->"Figure|None":
    "C3: how far the first K − 1 modes stand apart, beside the prediction, and how near they are to one another."
    layers = [v for v in _by_layer(table, "test_twin_separation")]
    if not layers: return None
    fig, axes = _axes(3, 3.4)
    for layer, rows, colour in layers:
        _over_epochs(axes[0], rows, "test_twin_separation", colour, layer)
        if not claims.lacking(rows, ["predicted_separation"]):
            _over_epochs(axes[0], rows, "predicted_separation", colour, f"{layer}, predicted", "s:")
        for ax, column in zip(axes[1:], ("test_twin_prominence", "test_twin_spread")):
            if not claims.lacking(rows, [column]): _over_epochs(ax, rows, column, colour, layer)
    labels = ("separation behind mode K−1", "prominence of that break", "spread of the first K−1 modes")
    for ax, limit, label in zip(axes, (claims.GAP, claims.PROMINENT, claims.GAP), labels):
        _level(ax, limit); _log(ax, "y"); _epochs(ax, table.epoch)
        _tidy(ax, "epoch", f"{label}\n(ratio of β$_c$ − 1)" if ax is not axes[1] else f"{label}\n(evenly falling: 1)")
    _legend(fig, axes, 5)
    return fig


def coincidence(table: pd.DataFrame, num_classes: int)->"Figure|None": # nothing if no pair has the epochs
    "C4: epoch of the plateau against that of the transitions and of NC1, one dot per pair, conditions of any speed."
    plain = table[(table.layer == "backbone") & ~table.copula.astype(bool)]
    plain = plain[plain.condition.map(claims.differs_in_speed)]
    if "test_shortfall" not in plain or plain.test_shortfall.isna().all(): return None
    times = [{"condition": p.condition.iloc[0], **claims.events(p, num_classes - 1)} for p in claims.pairs(plain)]
    times = pd.DataFrame(times).dropna(subset=["plateau", "transitions"])
    if not len(times): return None
    fig, axes = _axes(2, 3.8)
    low, high = (f(times[["plateau", "transitions", "NC1"]].to_numpy()) for f in (np.nanmin, np.nanmax))
    ends = np.array([low/1.25, high*1.25])
    for ax, name, title in zip(axes, ("transitions", "NC1"), ("transitions", "rival: NC1")):
        for (_, g), style in zip(times.groupby("condition", sort=False), _styles(times.condition.unique())):
            ax.plot(g[name], g.plateau, **style)
        ax.fill_between(ends, ends/claims.FACTOR, ends*claims.FACTOR, color=colours["grey"], alpha=.15, linewidth=0,
                        label=f"equal within a factor of {claims.FACTOR:g}")
        _log(ax, "x", "y")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
            axis.set_minor_locator(NullLocator())
        ax.set_xlim(ends); ax.set_ylim(ends)
        _tidy(ax, "epoch at 95 % of its way", "epoch of the plateau" if ax is axes[0] else "", title)
    _legend(fig, axes)
    return fig


def packing(table: pd.DataFrame)->"Figure|None":
    "C5: distance from a Gaussian, isotropy, kurtosis within classes and excess rate over epochs."
    k = claims.KURTOSIS
    panels = (("gaussian_ratio", [claims.RATIO], "distance from a Gaussian\n(ideal simplex: 1)"),
              ("condition_number", [claims.CONDITION], "condition number\nof the class means"),
              ("within_kurtosis_ratio", [k, 1/k], "kurtosis within classes\n(Gaussian: 1)"),
              ("excess_rate", [claims.EXCESS], "excess rate\n(share of the optimal rate)"))
    return _panels(table, panels, 2.9)


def generalisation(table: pd.DataFrame)->"Figure|None": # nothing without conditions to compare
    "C6: test error against the corner shortfall, test NC1 and the IB gap; collapsed conditions are filled."
    last = claims.ends(table[(table.layer == "backbone") & ~table.copula.astype(bool)])
    if last.condition.nunique() < 2: return None
    order = {c: i for i, c in enumerate(table.condition.unique())} # as everywhere else; main keeps its colour
    last = last.sort_values("condition", key=lambda c: c.map(order), kind="stable")
    columns = (("test_shortfall", "shortfall at the corner, test\n(share of the optimum)"), ("test_nc1", "NC1, test"),
               ("test_ib_gap", "IB gap, twin, test"))
    panels = [(c, label) for c, label in columns if not claims.lacking(last, [c])]
    fig, axes = _axes(len(panels), 3.8)
    for ax, (column, label) in zip(axes, panels):
        for (_, g), style in zip(last.groupby("condition", sort=False), _styles(last.condition.unique())):
            full = style["color"] if g.train_nc1.mean() <= claims.COLLAPSED else "none"
            ax.plot(g[column], 100*(1 - g.test_accuracy), **style | {"mfc": full})
        _log(ax, "y")
        if column == "test_nc1": _log(ax, "x")
        _tidy(ax, label, "test error (%)" if ax is axes[0] else "")
    _legend(fig, axes[:1])
    return fig


def of_claims(table: pd.DataFrame, cross: pd.DataFrame, num_classes: int)->dict[str, Figure]: # by name
    "One picture per claim that has something to show."
    found = {"c1": collapse(table), "c2": identifiability(table, cross), "c3": transitions(table),
             "c4": coincidence(table, num_classes), "c5": packing(table), "c6": generalisation(table)}
    return {name: figure for name, figure in found.items() if figure is not None}


def draw(timeline: Timeline, # of the first pair of the main condition
         table: pd.DataFrame, cross: pd.DataFrame, num_classes: int)->dict[str, Figure]: # by name
    "All figures that have something to show."
    return {name: plot(timeline) for name, plot in OF_A_PAIR.items()} | of_claims(table, cross, num_classes)

"""Neural collapse in supervised contrastive learning, seen through the information bottleneck.

    import ncib
    print(ncib.collapse_metrics(features, labels))      # NC1 to NC4 of (n, d) features of any model
    print(ncib.GaussianIB.fit(features_a, features_b))  # critical βs between two encoders' features of the same images
    ncib.write_report(ncib.analyze(features_a, features_b, labels), "report.html")  # the whole story of the pair

To train, record and compare whole runs, from Python or with the command `ncib` (see `ncib --help`):

    from ncib.train import train
    a, b = (train(ncib.TrainConfig(seed=s), f"runs/{s}") for s in (0, 1))
    print(*ncib.analyze(a, b).verdict(), sep="\\n")

The main names, loaded when they are asked for, as is every module (information is in nats everywhere):

    load_images, TrainConfig, recipe, Run           images, options, run directories
    encode_images                                   features of any network, written as a run directory
    analyze, Timeline, write_report                 a pair of runs or of arrays, checkpoint by checkpoint
    collapse_metrics, NeuralCollapse                neural collapse of features, or of a stream of them
    canonical_correlations, GaussianIB              what two sets of features share, and the bottleneck between them
    DiscreteIB, ib_curve                            the bottleneck of a table p(x, y)
    supcon_loss, SupConLoss                         the supervised contrastive loss
    CheckpointExplorer, BetaSweep                   widgets for JupyterLab
    InputError                                      what every bad input raises
"""
__version__ = "0.1.0"

_names = {  # by module: what `ncib.name` gives
    "base": ["InputError"],
    "cca": ["canonical_correlations"],
    "collapse": ["NeuralCollapse", "collapse_metrics"],
    "config": ["TrainConfig", "recipe"],
    "data": ["load_images"],
    "encoders": ["encode_images"],
    "explore": ["BetaSweep", "CheckpointExplorer"],
    "gib": ["GaussianIB"],
    "ib": ["DiscreteIB", "ib_curve"],
    "losses": ["SupConLoss", "supcon_loss"],
    "report": ["write_report"],
    "runs": ["Run"],
    "timeline": ["Timeline", "analyze"],
}


def __getattr__(name):
    from importlib import import_module
    for module, names in _names.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    from pkgutil import iter_modules
    if not name.startswith("_") and name in [m.name for m in iter_modules(__path__)]:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    from importlib.util import find_spec
    widgets = find_spec("anywidget") is not None        # a GPU node has none: what needs them is not offered there
    offered = {n for module, names in _names.items() for n in names if widgets or module != "explore"}
    return sorted({*globals(), *offered} - {"_names"})

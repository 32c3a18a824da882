"""The page "Coming from another package": every line of its tables runs, and gives the number of the line beside it: by
the formula of that package, written here in NumPy, and by the package itself where it can be imported.

To compare with packages that are not installed, put their sources on PYTHONPATH (SupContrast is its `losses.py`)."""
import ast
import copy
import re
from functools import partial
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch

from ncib.core import InputError
from sync import ROOT

PAGE = ROOT/"nbs/tutorials/coming_from.ipynb"


def tables(text):
    "Rows (there, here, what differs) of a markdown cell's tables, code without its backticks."
    rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")]
    assert all(len(r) == 3 and r[1][0] == r[1][-1] == "`" for r in rows), rows
    return [SimpleNamespace(there=r[0][1:r[0].index("`", 1)], here=r[1][1:-1], differs=r[2]) for r in rows]


def page():
    "Code cells and tables in their order: (section, source of the cell or rows of the table)."
    section, out = "", []
    for cell in nbformat.read(PAGE, 4).cells:
        section = (re.findall(r"(?m)^## (.+)$", cell.source) if cell.cell_type == "markdown" else []) or [section]
        section = section[-1]
        if cell.cell_type == "code": out.append((section, cell.source))
        elif rows := tables(cell.source): out.append((section, rows))
    return out


CELLS = page()
ROWS = [SimpleNamespace(section=section, **vars(row)) for section, rows in CELLS if not isinstance(rows, str)
        for row in rows]
SAME = [r for r in ROWS if not r.differs.startswith(("Another number", "Not always the same"))]
names = lambda rows: [f"{r.section.split(' ')[0]}-{i}" for i, r in enumerate(rows)]


def value(code, ns):
    "Runs code; what its last line is worth, None for a statement."
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), code, "exec"), ns)
    if isinstance(last, ast.Expr): return eval(compile(ast.Expression(last.value), code, "eval"), ns)
    exec(compile(ast.Module([last], []), code, "exec"), ns)


def number(v):
    "Numbers of a result as one float64 array; None if it is none."
    if isinstance(v, (tuple, list)): return np.array([number(a) for a in v])
    v = v.detach().numpy() if isinstance(v, torch.Tensor) else v
    return np.asarray(v, dtype=np.float64) if isinstance(v, (int, float, np.number, np.ndarray)) else None


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    "The page run from top to bottom: for each row, what the line here gives, and the names it was run with."
    out, trainer = {}, SimpleNamespace(log=lambda row: None)
    ns = {"trainer": trainer}
    # for the row of several processes
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('group')/'store'}",
                                         rank=0, world_size=1)
    try:
        for section, content in CELLS:
            if isinstance(content, str): exec(content, ns)
            else:
                for row in content: out[section, row.there] = value(row.here, ns), dict(ns)
    finally: torch.distributed.destroy_process_group()
    return out


def found(results, row):
    v, ns = results[row.section, row.there]
    return number(v), dict(ns)


def agree(row, there, here, rtol):
    "NaN agrees with nothing."
    there, here = number(there), number(here)
    if "sign of columns" in row.differs: there, here = np.abs(there), np.abs(here)
    assert there.shape == here.shape and here.size, (there.shape, here.shape)
    np.testing.assert_allclose(here, there, rtol=rtol, atol=rtol, equal_nan=False)


def test_the_page_has_tables():
    assert len({r.section for r in ROWS}) >= 9 and len(ROWS) == len({(r.section, r.there) for r in ROWS}) > 45


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_line_here_runs(row, results):
    v, ns = results[row.section, row.there]
    assert v is not None or row.here.split(" = ")[0] in ns


def test_the_page_stands_as_it_was_run():
    "Its figure is there, with words for those who do not see it."
    cells = nbformat.read(PAGE, 4).cells
    drawn = [c for c in cells if c.cell_type == "code" and any("image/png" in o.get("data", {}) for o in c.outputs)]
    assert drawn and all("#| fig-alt:" in c.source for c in drawn)


# ---- the formulas of the packages, from their definitions

def supcon(rows, labels, temperature):
    """For every row −mean over the others of its class of log(e^{s_ip}/Σ_{a≠i} e^{s_ia}), 0 where there are none, eq. 2
    of Khosla et al. 2020."""
    s, labels, out = np.asarray(rows) @ np.asarray(rows).T/temperature, np.asarray(labels), []
    for i in range(len(s)):
        others = np.arange(len(s)) != i
        below = np.log(np.exp(s[i, others] - s[i, others].max()).sum()) + s[i, others].max()
        same = others & (labels == labels[i])
        out.append((below - s[i, same]).mean() if same.any() else 0.)
    return np.array(out)


def views(z): return z.reshape(-1, z.shape[-1]).numpy()
def each(labels, z): return np.repeat(labels.numpy(), z.shape[1])
def unit_rows(a): return a.numpy()/np.linalg.norm(a.numpy(), axis=1, keepdims=True)
def above_zero(v): return v[v > 0].mean()


def classes(ns):
    "Means, within and between covariances of x and y in float64, and the centred means."
    x, y = ns["x"].double().numpy(), ns["y"].numpy()
    means = np.array([x[y == k].mean(0) for k in range(ns["K"])])
    r, centred = x - means[y], means - means.mean(0)
    return SimpleNamespace(x=x, y=y, means=means, r=r, centred=centred, within=r.T @ r/len(x),
                           between=centred.T @ centred/len(means),
                           variance=np.array([(r[y == k]**2).sum(1).mean() for k in range(len(means))]),
                           pairs=np.triu_indices(len(means), 1), weight=ns["weight"].double().numpy())


def etf_distance(gram):
    k = len(gram)
    return np.linalg.norm(gram/np.linalg.norm(gram) - (np.eye(k) - 1/k)/np.sqrt(k - 1))


def nc1(c): return np.trace(np.linalg.pinv(c.between, rcond=1e-10) @ c.within)/len(c.means)


def cdnv(c):
    return np.mean([(c.variance[i] + c.variance[j])/2/((c.means[i] - c.means[j])**2).sum() for i, j in zip(*c.pairs)])


def unit_distances(c):
    u = c.centred/np.linalg.norm(c.centred, axis=1, keepdims=True)
    return np.array([np.linalg.norm(u[i] - u[j]) for i, j in zip(*c.pairs)])


def energies(c): return (e := -np.log(unit_distances(c))).mean(), e.var()


def agreement(c, x):
    "Share of rows where the classifier without a bias and the nearest class mean agree."
    x = x.double().numpy()
    return ((x @ c.weight.T).argmax(1) == ((x[:, None] - c.means)**2).sum(2).argmin(1)).mean()


def away(c, far):
    m = far.double().numpy().mean(0)
    return np.mean([abs(a @ m)/np.linalg.norm(a)/np.linalg.norm(m) for a in c.means])


def entropy(q): return -(q[q > 0]*np.log2(q[q > 0])).sum()                       # bits
def information(q): return entropy(q.sum(0)) + entropy(q.sum(1)) - entropy(q.ravel())


def bottleneck(p, b, iterations=20_000):
    """Information I(X;M) and I(M;Y) in bits where p(m|x) ∝ p(m) exp(−b·KL in bits) stands still, from an encoder that
    is nearly one to one."""
    px = p.sum(1)
    py_x = p/px[:, None]
    enc = .9*np.eye(len(px)) + .1/len(px)
    for _ in range(iterations):
        pm = px @ enc
        py_m = (enc*px[:, None]).T @ py_x/pm[:, None]
        new = pm*np.exp(-b*((py_x*np.log2(py_x)).sum(1)[:, None] - py_x @ np.log2(py_m).T))
        new /= new.sum(1, keepdims=True)
        if abs(new - enc).max() < 1e-13: break
        enc = new
    joint_xm = enc*px[:, None]
    return information(joint_xm), information(joint_xm.T @ py_x)


def curve_of(ns): return np.array([bottleneck(ns["p"], b) for b in (1., 3., 5.)])


def table(s, t): return np.array([[((s == a) & (t == b)).mean() for b in np.unique(t)] for a in np.unique(s)])


def cca(ns, c=(0., 0.)):
    """Weights of three canonical directions by two symmetric eigenproblems, with cca-zoo's normalisation: wᵀ((1 − c)Σ +
    cI)w = 1, Σ with n − 1."""
    u, v = (ns[k] - ns[k].mean(0) for k in "uv")
    n = len(u)
    a, b = ((1 - ci)*f.T @ f/(n - 1) + ci*np.eye(f.shape[1]) for f, ci in zip((u, v), c))
    def root(m):
        w, q = np.linalg.eigh(m)
        return q/np.sqrt(w) @ q.T
    left, _, right = np.linalg.svd(root(a) @ (u.T @ v/(n - 1)) @ root(b))
    return root(a) @ left[:, :3], root(b) @ right[:3].T


def pearson(a, b): return np.array([np.corrcoef(i, j)[0, 1] for i, j in zip(a.T, b.T)])


def scores(ns, u="u", v="v", c=(0., 0.)):
    wu, wv = cca(ns, c)
    return pearson(ns[u] @ wu, ns[v] @ wv)


def through(ns):
    "The stages of the ResNet one after the other, and the average over positions."
    m, out = ns["model"], ns["images"]
    with torch.no_grad():
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            out = getattr(m, name)(out)
        return out.mean((2, 3))


FORMULAS = {
    "SupConLoss(.1)(z, labels)": lambda ns: .1/.07*supcon(views(ns["z"]), each(ns["labels"], ns["z"]), .1).mean(),
    "SupConLoss()(z, labels)": lambda ns: supcon(views(ns["z"]), each(ns["labels"], ns["z"]), .07).mean(),
    "SupConLoss(.1, base_temperature=.1)(z, labels)":
        lambda ns: supcon(views(ns["z"]), each(ns["labels"], ns["z"]), .1).mean(),
    "SupConLoss(.1)(z)": lambda ns: .1/.07*supcon(views(ns["z"]), each(torch.arange(len(ns["z"])), ns["z"]), .1).mean(),
    "SupConLoss(.1)(z[:, :1], labels)": lambda ns: .1/.07*supcon(views(ns["z"][:, :1]), ns["labels"], .1).mean(),
    "SupConLoss(.1)(z, marked)": lambda ns: .1/.07*supcon(views(ns["z"]), each(ns["marked"], ns["z"]), .1).mean(),

    "SupConLoss(temperature=.1)(e, labels)": lambda ns: above_zero(supcon(unit_rows(ns["e"]), ns["labels"], .1)),
    "SupConLoss(temperature=.1, reducer=MeanReducer())(e, labels)":
        lambda ns: supcon(unit_rows(ns["e"]), ns["labels"], .1).mean(),
    "SupConLoss(temperature=1, distance=DotProductSimilarity(normalize_embeddings=False))(e, "
    "labels)": lambda ns: above_zero(supcon(ns["e"], ns["labels"], 1)),
    "SelfSupervisedLoss(NTXentLoss(.1))(e1, e2)":
        lambda ns: supcon(np.concatenate([unit_rows(ns["e1"]), unit_rows(ns["e2"])]),
                          np.tile(np.arange(len(ns["e1"])), 2), .1).mean(),
    "DistributedLossWrapper(SupConLoss(temperature=.1))(e, labels)":
        lambda ns: above_zero(supcon(unit_rows(ns["e"]), ns["labels"], .1)),

    "covariance_ratio(covar, means, mG)": lambda ns: nc1(classes(ns)),
    'covariance_ratio(covar, means, mG, "svd")': lambda ns: nc1(classes(ns)),
    'covariance_ratio(covar, means, mG, "quotient")': lambda ns: np.trace(classes(ns).within)
    /np.trace(classes(ns).between),
    "variability_cdnv(var_norms, means)": lambda ns: cdnv(classes(ns)),
    "simplex_etf_error(means, mG)": lambda ns: etf_distance(classes(ns).centred @ classes(ns).centred.T),
    "kernel_stats(means, mG, log_kernel)": lambda ns: energies(classes(ns)),
    "kernel_stats(means, mG)[1]": lambda ns: unit_distances(classes(ns)).var(),
    "self_duality_error(weight, means, mG)": lambda ns: etf_distance(classes(ns).weight @ classes(ns).centred.T),
    "similarities(weight, means, mG).var()": lambda ns: (classes(ns).weight*classes(ns).centred).sum(1).var(ddof=1),
    "clf_ncc_agreement(agreement)": lambda ns: agreement(classes(ns), ns["x"]),
    "clf_ncc_agreement(new_agreement)": lambda ns: agreement(classes(ns), ns["new_x"]),
    "orthogonality_deviation(means, mG_far)": lambda ns: away(classes(ns), ns["far"]),

    "beta": lambda ns: np.array([1., 3., 5.]),
    "i_x": lambda ns: curve_of(ns)[:, 0],
    "i_y": lambda ns: curve_of(ns)[:, 1],
    "InformationBottleneck(pxy=p).get_saturation_point()": lambda ns: information(ns["p"]),
    "InformationBottleneck(s, t).get_saturation_point()": lambda ns: information(table(ns["s"], ns["t"])),

    "CCA(3).fit([u, v]).score([u, v])": lambda ns: scores(ns).mean(),
    "CCA(3).fit([u, v]).score([new_u, new_v])": lambda ns: scores(ns, "new_u", "new_v").mean(),
    "average_pairwise_correlations(pairwise_correlations(CCA(3).fit([u, v]).transform([new_u, new_v])))":
        lambda ns: scores(ns, "new_u", "new_v"),
    "CCA(3).fit([u, v]).transform([u, v])[0]": lambda ns: (ns["u"] - ns["u"].mean(0)) @ cca(ns)[0],
    "CCA(3).fit([u, v]).weights_[1]": lambda ns: cca(ns)[1],
    "RidgeCCA(3, shrinkage=[ridge(u, .1), ridge(v, .1)]).fit([u, v]).score([u, v])":
        lambda ns: scores(ns, c=(ns["ridge"](ns["u"], .1), ns["ridge"](ns["v"], .1))).mean(),
    "factor_loadings([u, v], CCA(3).fit([u, v]).transform([u, v]))[0]":
        lambda ns: np.array([pearson(np.repeat(f[:, None], 3, 1), ns["u"] @ cca(ns)[0]) for f in ns["u"].T]),

    "model.forward_features(images).mean((2, 3))": through,
    "model.forward_head(model.forward_features(images), pre_logits=True)": through,
}
# compared with the packages themselves, always
INSTALLED = ("torchmetrics", "Hooks, and torchvision")
BY_FORMULA = [r for r in SAME if r.section not in INSTALLED and not re.match(r"[\w, ]+ = ", r.there)]


def test_every_promise_has_a_formula(): assert {r.there for r in BY_FORMULA} == FORMULAS.keys()


@pytest.mark.parametrize("row", BY_FORMULA, ids=names(BY_FORMULA))
def test_the_line_here_gives_the_number_of_the_formula(row, results):
    here, ns = found(results, row)
    agree(row, FORMULAS[row.there](ns), here, 1e-5 if row.section == "timm" else 1e-5 if row.there in ("i_x", "i_y")
          else 1e-6)


# ---- the packages themselves

def accumulate(ns):
    "Two passes of neural-collapse over x and y, and what its other functions take."
    from neural_collapse.accumulate import CovarAccumulator, DecAccumulator, MeanAccumulator, VarNormAccumulator
    K, d = ns["K"], ns["d"]
    def mean(x, y):
        a = MeanAccumulator(K, d)
        a.accumulate(x, y)
        return a.compute()
    ns["means"], ns["mG"] = mean(ns["x"], ns["y"])
    covar, var = CovarAccumulator(K, d, M=ns["means"]), VarNormAccumulator(K, d, M=ns["means"])
    for a in (covar, var): a.accumulate(ns["x"], ns["y"], ns["means"])
    ns["covar"], ns["var_norms"] = covar.compute(), var.compute()[0]
    for name, x, y in (("agreement", ns["x"], ns["y"]), ("new_agreement", ns["new_x"], ns["new_y"])):
        ns[name] = DecAccumulator(K, d, M=ns["means"], W=ns["weight"])
        ns[name].accumulate(x, y, ns["weight"], ns["means"])
    ns["mG_far"] = mean(ns["far"], torch.arange(len(ns["far"])) % K)[1]


def supcontrast(ns):
    import inspect

    import losses
    if not hasattr(losses, "SupConLoss") or "base_temperature" not in inspect.signature(losses.SupConLoss).parameters:
        pytest.skip("losses is not SupContrast's")
    ns["SupConLoss"] = losses.SupConLoss


def metric_learning(ns):
    from pytorch_metric_learning import distances, losses, reducers
    from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
    ns |= {k: getattr(m, k) for m, ks in ((losses, ("SupConLoss", "NTXentLoss", "SelfSupervisedLoss")),
                                          (reducers, ("MeanReducer",)), (distances, ("DotProductSimilarity",)))
           for k in ks}
    ns["DistributedLossWrapper"] = DistributedLossWrapper


def neural_collapse(ns):
    from neural_collapse import kernels, measure
    ns |= {k: getattr(measure, k) for k in ("covariance_ratio", "variability_cdnv", "simplex_etf_error",
                                            "self_duality_error", "similarities", "clf_ncc_agreement",
                                            "orthogonality_deviation")}
    ns |= {k: getattr(kernels, k) for k in ("kernel_stats", "log_kernel")}
    accumulate(ns)


def embo(ns):
    """Run until its objective stands still, every β kept: what is compared is what it solves, not how far it goes by
    default."""
    from embo import InformationBottleneck
    np.random.seed(0)
    ns["InformationBottleneck"] = partial(InformationBottleneck, rtol=1e-12, iterations=20_000,
                                          ensure_monotonic_bound=False)
    ns["p"] = ns["p"].copy()


def cca_zoo(ns):
    from cca_zoo.linear import CCA, RidgeCCA
    from cca_zoo.metrics import average_pairwise_correlations, factor_loadings, pairwise_correlations
    ns |= {f.__name__: f for f in (CCA, RidgeCCA, average_pairwise_correlations, factor_loadings,
                                   pairwise_correlations)}


def torchmetrics(ns):
    from torchmetrics.classification import MulticlassAccuracy
    from torchmetrics.functional import pairwise_cosine_similarity
    from torchmetrics.functional.clustering import calinski_harabasz_score, mutual_info_score
    ns |= {f.__name__: f for f in (MulticlassAccuracy, pairwise_cosine_similarity, calinski_harabasz_score,
                                   mutual_info_score)}


HOOK = next(r.there for r in ROWS if r.there.startswith("model.layer4.register"))


def hooks(ns, row):
    "What a hook keeps is kept from the first line of the table on."
    from torchvision.models.feature_extraction import create_feature_extractor
    ns["create_feature_extractor"], ns["kept"], ns["model"] = create_feature_extractor, [], copy.deepcopy(ns["model"])
    ns["keep"] = lambda module, inputs, output: ns["kept"].append(output)
    if row.there.startswith("collapse_metrics"): value(HOOK, ns)


def timm(ns):
    "The same weights in timm's ResNet, whose modules have the same names."
    import timm
    model = timm.create_model("resnet18", num_classes=ns["K"]).eval()
    model.load_state_dict(ns["model"].state_dict())
    ns["model"] = model


PACKAGES = {"SupContrast": ("losses", supcontrast),
            "pytorch-metric-learning": ("pytorch_metric_learning", metric_learning),
            "torchmetrics": ("torchmetrics", torchmetrics), "neural-collapse": ("neural_collapse", neural_collapse),
            "embo": ("embo", embo), "cca-zoo": ("cca_zoo", cca_zoo), "Hooks, and torchvision": ("torchvision", hooks),
            "timm": ("timm", timm)}
REAL = [r for r in ROWS if r.section in PACKAGES and not r.there.startswith("python ")]


@pytest.mark.parametrize("row", REAL, ids=names(REAL))
def test_the_line_there_gives_the_same_number(row, results):
    "Or another one, where the page says so."
    name, prepare = PACKAGES[row.section]
    pytest.importorskip(name)
    here, ns = found(results, row)
    prepare(ns, row) if prepare is hooks else prepare(ns)
    if row.section == "embo" and row.there in ("beta", "i_x", "i_y", "h_m"):
        value(next(r.there for r in ROWS if r.there.startswith("i_x, ")), ns)
    with torch.no_grad(): there = number(value(row.there, ns))
    if row.section == "timm": here = number(value(row.here, ns))
    if here is None: return
    if row in SAME:
        agree(row, there, here, 1e-4 if row.section in ("neural-collapse", "embo", "timm", "Hooks, and torchvision")
              else 1e-6)
    elif row.differs.startswith("Another number"):
        assert np.isfinite(there).all() and not np.allclose(there, here, rtol=1e-3)


# ---- what the text says beside the tables

def test_what_the_text_says(results):
    """An empty class is an error and can be left out, a table has to sum to 1, a one-class batch has a loss, views
    beyond two are classes of their own."""
    from ncib.collapse import NeuralCollapse, collapse_metrics
    from ncib.ib import DiscreteIB
    from ncib.losses import supcon_loss
    _, ns = next(iter(results.values()))
    x, y, z, labels = ns["x"], ns["y"], ns["z"], ns["labels"]
    with pytest.raises(InputError, match="classes="): collapse_metrics(x, torch.where(y == 1, 0, y))
    assert len(collapse_metrics(x, torch.where(y == 1, 0, y), classes=[0, 2]).classes) == 2
    with pytest.raises(InputError, match="from_counts"): DiscreteIB(2*ns["p"])
    three = torch.cat([z, z[:, :1]], 1)
    assert abs(float(supcon_loss(three, torch.arange(len(z)), .1))
               - supcon(views(three), each(torch.arange(len(z)), three), .1).mean()) < 1e-9
    assert float(supcon_loss(z, torch.zeros_like(labels), .1)) > 1
    assert (supcon_loss(normal4 := z[..., None].flatten(2), labels, .1) == supcon_loss(z, labels, .1)
            and normal4.ndim == 3)
    metric = NeuralCollapse(3, 8)
    assert (metric(x, y) is None and metric.ignore_index == -100
            and set(metric.state_dict()) == {"counts", "means", "class_scatter", "scatter", "ignored"})
    assert (metric.half().means.dtype == torch.float64
            and all(v.dtype == torch.float64 and v.ndim == 0 for v in metric.compute().values()))

"""The documentation, as far as it can be checked without Quarto: notebooks process, links and citations lead somewhere,
names are documented, commands are commands."""
import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import nbformat
import pytest

from sync import ROOT

pytest.importorskip("nbdev")
import yaml
from fastcore.docments import docments

from ncib.cli import main, parser
from show_api import layers, public_members, with_texts_of_layers

NBS = ROOT/"nbs"
NOTEBOOKS = sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = sorted(p.stem for p in (ROOT/"ncib").glob("*.py") if not p.stem.startswith("_"))
name_of = lambda p: p.relative_to(ROOT).as_posix()


def markdown(notebook) -> str:
    return "\n\n".join(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "markdown")


def prose(text: str) -> str:
    "Markdown without code: what a citation, a link or an inline command may stand in."
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def site_settings() -> dict: return yaml.safe_load((ROOT/"_quarto.yml").read_text(encoding="utf-8"))


# ---- the site

def test_every_notebook_processes(tmp_path):
    "What `make docs` does before it calls Quarto: show the documentation of every public name, run the imports."
    tree = tmp_path/"ncib"
    for name in ("nbs", "ncib"):
        shutil.copytree(ROOT/name, tree/name,
                        ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"))
    for name in ("settings.ini", "pyproject.toml", "_quarto.yml", "README.md"): shutil.copy(ROOT/name, tree/name)
    subprocess.run(["git", "init", "-q", "."], cwd=tree, check=True)
    code = ("from nbdev.quarto import refresh_quarto_yml; from nbdev.serve import proc_nbs; refresh_quarto_yml(); "
            "proc_nbs(n_workers=0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT/"tools")})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "imports and other code" not in done.stderr, done.stderr[-3000:]
    assert {p.relative_to(NBS) for p in NOTEBOOKS} <= {p.relative_to(tree/"_proc")
                                                       for p in (tree/"_proc").rglob("*.ipynb")}
    for name in ("references.bib", "theme.scss", "theme-dark.scss", "rules.scss", "changelog.qmd", "after_render.lua",
                 "formulas.lua",
                 "images/logo.svg", "images/favicon.svg"):
        assert (tree/"_proc"/name).is_file(), name


def test_site_settings_name_files_that_exist():
    "Navigation, bibliography, themes and pictures; every notebook can be reached from the sidebar."
    settings = site_settings()
    def values(node):
        if isinstance(node, dict): return [v for k in node for v in values(node[k])]
        if isinstance(node, list): return [v for n in node for v in values(n)]
        return [node]
    named = [v for v in values(settings) if isinstance(v, str) and not v.startswith("http")
             and re.search(r"\.(ipynb|qmd|bib|scss|svg|lua)$", v)]
    assert len(named) > 10 and not [v for v in named if not (NBS/v).is_file()]
    reached = {p for v in values(settings["website"]["sidebar"]) if isinstance(v, str)
               and re.search(r"\.ipynb$|/\*$", v) for p in NBS.glob(v)}
    assert not [name_of(p) for p in NOTEBOOKS if p not in reached]
    nbdev = yaml.safe_load((NBS/"nbdev.yml").read_text(encoding="utf-8"))["website"]
    assert all(v.startswith(nbdev["repo-url"]) for v in values(settings["website"]["navbar"]) if isinstance(v, str)
               and v.startswith("http"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_starts_with_title_and_summary(notebook):
    "And its first cell holds nothing else: nbdev makes the head of the page of it, and drops the rest."
    first = nbformat.read(notebook, 4).cells[0]
    assert first.cell_type == "markdown" and re.fullmatch(r"# \S.*\n\n> \S.*", first.source)


@pytest.mark.parametrize("notebook", [p for p in NOTEBOOKS if p.parent.name in ("explanations", "tutorials")],
                         ids=name_of)
def test_a_page_to_read_shows_figures(notebook):
    assert any("image/png" in o.get("data", {}) or "text/html" in o.get("data", {})
               for c in nbformat.read(notebook, 4).cells if c.cell_type == "code" for o in c.outputs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_page_can_be_read_without_its_figures(notebook):
    "Every figure says what it shows, and no text of a link is in backticks: the site would put a link into the link."
    assert not re.findall(r"\[`[^`\]]+`\]\((?!http)[^)]+\)", markdown(notebook))
    for c in nbformat.read(notebook, 4).cells:
        if c.cell_type != "code" or "#| hide" in c.source: continue
        drawn = any("image/png" in o.get("data", {}) for o in c.outputs)
        assert not drawn or re.search("fig-alt|fig-cap", c.source), c.source[:200]


# ---- links and citations

@pytest.mark.parametrize("page", [*NOTEBOOKS, ROOT/"README.md", ROOT/"CONTRIBUTING.md", ROOT/"CHANGELOG.md"],
                         ids=name_of)
def test_links_lead_somewhere(page):
    """Relative links name files; from a page of the site they stay within it; to a heading of another page, the heading
    is there."""
    text = prose(markdown(page) if page.suffix == ".ipynb" else page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text) + re.findall(r'src="(?!https?:|data:)([^"]+)"', text):
        path, _, heading = link.partition("#")
        target = (page.parent/path).resolve() if path else page
        assert target.exists(), link
        if page.suffix == ".ipynb": assert NBS in target.parents, f"{link} leaves the site"
        if heading:
            titles = re.findall(r"(?m)^#+ (.+)$", prose(markdown(target)))
            assert heading in {re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles}, link


def bibliography() -> dict[str, dict]:
    "Key → fields of every entry of references.bib."
    text = (NBS/"references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"(?ms)^@(\w+)\{(\w+),\n(.*?)\n\}", text)
    assert len(entries) == len(re.findall(r"(?m)^@", text))
    return {key: {"type": kind} | dict(re.findall(r"(?m)^  (\w+) = \{(.+)\},?$", body)) for kind, key, body in entries}


def cited(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w`.])@([A-Za-z]\w*\d{4}\w*)", re.sub(r"`[^`]*`", "", prose(text))))


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    keys = list(bibliography())
    used = {name_of(p): cited(markdown(p)) for p in NOTEBOOKS}
    assert not {page: found - set(keys) for page, found in used.items() if found - set(keys)}
    uncited = set(keys) - set().union(*used.values())
    assert not uncited
    assert keys == sorted(set(keys))


def test_entries_say_who_what_where_and_when():
    for key, entry in bibliography().items():
        assert {"author", "title", "year"} <= set(entry), key
        assert re.sub(r"\D", "", key) == entry["year"], key
        assert {"journal", "booktitle", "publisher", "institution", "eprint"} & set(entry), key
        assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", entry.get("eprint", "0000.0000")), key
        assert re.fullmatch(r"10\.\d{4,}/\S+", entry.get("doi", "10.0000/x")), key


# ---- public names

def gives_a_value(function) -> bool:
    "Does its body return or yield something?"
    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.Lambda)): continue
            if (isinstance(child, (ast.Yield, ast.YieldFrom))
                or (isinstance(child, ast.Return) and child.value is not None)): return True
            if walk(child): return True
        return False
    return walk(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0])


def undocumented(name: str, obj) -> list[str]:
    """What a reader of the API page of a function or class would miss: a summary, a text beside a parameter or field,
    the kind of the result."""
    out = [] if (inspect.getdoc(obj) if inspect.isfunction(obj) else obj.__doc__) else [f"{name} has no docstring"]
    made = inspect.isclass(obj) and any("__init__" in vars(c) for c in layers(obj))
    takes = obj if inspect.isfunction(obj) or dataclasses.is_dataclass(obj) else obj.__init__ if made else None
    if takes is not None:
        described = docments(takes, full=True, returns=True, args_kwargs=True)
        if dataclasses.is_dataclass(obj): described = with_texts_of_layers(described, obj)
        helped = ({f.name for f in dataclasses.fields(obj) if f.metadata.get("help")} if dataclasses.is_dataclass(obj)
                  else set())
        out += [f"{name}: {p} has no text" for p, d in described.items()
                if not (p in ("self", "cls", "return") or p.startswith("_") or d.docment or p in helped)]
        given = described["return"]
        nothing = given.anno is inspect.Parameter.empty and not given.docment
        if inspect.isfunction(obj) and gives_a_value(obj) and nothing:
            out.append(f"{name}: the result has no type")
    if inspect.isclass(obj):
        for k, v in public_members(obj).items():
            if isinstance(v, property) or hasattr(v, "attrname"):
                if not inspect.getdoc(v): out.append(f"{name}.{k} has no docstring")
            elif inspect.isfunction(f := getattr(v, "__func__", v)): out += undocumented(f"{name}.{k}", f)
    return out


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module):
    m = importlib.import_module(f"ncib.{module}")
    objects = {n: getattr(m, n) for n in getattr(m, "__all__", [])}
    assert not [line for n, o in objects.items() if inspect.isfunction(o) or inspect.isclass(o)
                for line in undocumented(n, o)]


@pytest.mark.parametrize("notebook", sorted((NBS/"api").glob("[0-9]*.ipynb")), ids=name_of)
def test_public_functions_have_an_example(notebook):
    """Every public function is called on the page that documents it: in a cell that is not part of the package, or as a
    step of another function there."""
    code = [c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    module = importlib.import_module("ncib." + re.search(r"#\| default_exp (\w+)", "\n".join(code))[1])
    assert not [n for n in getattr(module, "__all__", []) if inspect.isfunction(getattr(module, n))
                and not re.search(rf"(?<!def )\b{n}\b", "\n".join(code))]


# ---- the report

def test_every_term_of_the_report_leads_to_its_formula(short_timeline):
    "Each link is a page of the site, and the heading is there: what Quarto makes of a notebook's name and of a title."
    from ncib.report import documentation as site
    from ncib.report import report_html
    assert site == yaml.safe_load((NBS/"nbdev.yml").read_text(encoding="utf-8"))["website"]["site-url"]
    pages = {re.sub(r"(^|/)\d+[a-z]?_", r"\1", p.relative_to(NBS).with_suffix(".html").as_posix()): p
             for p in NOTEBOOKS}
    links = re.findall(rf'href="{site}/([^"]+)"', report_html(short_timeline))
    assert len(links) >= 12
    for link in links:
        page, _, heading = link.partition("#")
        titles = re.findall(r"(?m)^#+ (.+)$", prose(markdown(pages[page])))
        assert not heading or heading in {re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-")
                                          for t in titles}, link


# ---- commands

def commands(page) -> list[str]:
    "Lines of shell blocks, and inline code that starts with a command of ours."
    text = markdown(page) if page.suffix == ".ipynb" else page.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"(?ms)^```(?:bash|sh|shell|console)\n(.*?)^```$", text)
             for line in block.replace("\\\n", " ").splitlines()]
    return [c.strip()
            for c in lines + re.findall(r"`((?:ncib|make|torchrun|python -m ncib|python benchmarks)[ ][^`]+)`",
                                        prose(text)) if c.strip() and not c.strip().startswith("#")]


COMMANDS = sorted({(name_of(p), c) for p in [*NOTEBOOKS, ROOT/"README.md", ROOT/"CONTRIBUTING.md"]
                   for c in commands(p)})


def parse(argv: list[str]):
    "Arguments as the command line understands them; an AssertionError with its message otherwise."
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try: args, more = parser().parse_known_args(argv)
        except SystemExit as e:
            assert not e.code, err.getvalue()
            return None
    assert args.command == "lab" or not more, f"unknown: {more}"
    return args


def ncib_argv(command: str) -> "list[str]|None":
    "The arguments of `ncib` in a shell line, also behind torchrun or python -m; None if it calls something else."
    words = [w for w in shlex.split(command, comments=True) if w != "…" and not re.fullmatch(r"[A-Z_]+=.*", w)]
    if "-m" in words and (i := words.index("-m")) + 1 < len(words) and words[i + 1] == "ncib.cli": return words[i + 2:]
    return words[1:] if words and words[0] == "ncib" else None


def test_commands_are_found():
    assert {"make demo", "make test"} <= {c.split(" #")[0].strip() for page, c in COMMANDS if page == "README.md"}


@pytest.mark.parametrize("page, command", COMMANDS)
def test_shown_commands_are_commands(page, command):
    """Each is a valid line of ours: subcommands and options exist, choices and numbers are legal, targets and scripts
    are there."""
    words = shlex.split(command, comments=True)
    if (argv := ncib_argv(command)) is not None: parse(argv if len(argv) > 1 else [*argv, "--help"])
    if words[0] == "make":
        assert all(re.search(rf"(?m)^{w}:", (ROOT/"Makefile").read_text()) for w in words[1:] if "=" not in w)
    for w in words:
        if w.startswith("benchmarks/"):
            source = (ROOT/w).read_text(encoding="utf-8")
            assert all(o in source for o in re.findall(r"(?<!\S)--[\w-]+", command))


def test_quick_commands_run(short_pair, tmp_path, monkeypatch, capsys):
    """The documented analyses and reports of runs/a and runs/b, for real, on a short pair; in the order in which they
    make what the next one needs."""
    monkeypatch.chdir(tmp_path)
    for name, run in zip("ab", short_pair): shutil.copytree(run.path, tmp_path/"runs"/name)
    ours = [argv for _, c in COMMANDS if (argv := ncib_argv(c)) is not None and len(argv) > 1]
    analyses = ([a for a in ours if a[0] == "analyze" and a[1:3] == ["runs/a", "runs/b"]]
                or [["analyze", "runs/a", "runs/b", "--out", "analysis/ab"]])
    for argv in analyses: assert main([*argv, "--quiet"]) == 0, argv
    made = {str(parse(a).out) for a in analyses}
    for argv in [a for a in ours if a[0] == "report" and a[1] in made] or [["report", sorted(made)[0]]]:
        assert main(argv) == 0, argv
    assert list(tmp_path.rglob("report.html")) and list(tmp_path.rglob("timeline.csv"))
    for command in parser()._subparsers._group_actions[0].choices: assert parse([command, "--help"]) is None
    capsys.readouterr()

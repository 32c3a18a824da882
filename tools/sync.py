"""Do ncib/, README.md and the notebooks say the same?  python tools/sync.py [--write]

Exports the notebooks into a scratch copy and compares; with --write brings the working tree up to date instead."""
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readme() -> str:
    """README.md as nbs/index.ipynb gives it: its markdown cells, its shown code cells and their text outputs, figures
    left to links."""
    from nbformat import read
    parts = []
    for cell in read(ROOT/"nbs/index.ipynb", 4).cells:
        source = cell.source.strip()
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"\]\((?!https?:|#)", "](nbs/", source))    # links are relative to nbs/ there
        elif cell.cell_type == "code" and not source.startswith("#| hide"):
            parts.append(f"```python\n{source}\n```")
            text = "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs).rstrip()
            if text: parts.append("\n".join("    " + line for line in text.splitlines()))
    return "<!-- Made from nbs/index.ipynb by `make sync`: edit that. -->\n\n" + "\n\n".join(parts) + "\n"


def export(tree: Path):
    tool = Path(sys.executable).with_name("nbdev_export")
    subprocess.run([tool], cwd=tree, check=True, env={**os.environ, "PYTHONPATH": str(tree)})


WIDGET = "application/vnd.jupyter.widget-view+json"


def only_live(output) -> bool:
    """Whether an output has a copy for readers without a kernel and points to a widget of a kernel that is gone. The
    site and JupyterLab would show the pointer, which leads nowhere, and not the copy."""
    return {WIDGET, "text/html"} <= output.get("data", {}).keys()


def notebooks() -> "list[tuple[Path, dict, list]]":
    "Every notebook: file, contents, and its outputs that are only alive beside a kernel."
    out = []
    for file in sorted((ROOT/"nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in file.parts: continue
        nb = json.loads(file.read_text(encoding="utf-8"))
        out.append((file, nb, [o for c in nb["cells"] for o in c.get("outputs", ()) if only_live(o)]))
    return out


def keep_copies():
    for file, nb, dead in notebooks():
        for o in dead: del o["data"][WIDGET]
        text = json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        if dead: file.write_text(text, encoding="utf-8")


def write():
    export(ROOT)
    subprocess.run([Path(sys.executable).with_name("nbdev_clean")], cwd=ROOT, check=True)
    keep_copies()
    (ROOT/"README.md").write_text(readme(), encoding="utf-8")


def problems() -> list[str]:
    with tempfile.TemporaryDirectory() as d:
        tree = Path(d)/"ncib"
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs")
        tree.mkdir()
        for name in ("nbs", "ncib"): shutil.copytree(ROOT/name, tree/name, ignore=ignore)
        for name in ("settings.ini", "pyproject.toml", "_quarto.yml"): shutil.copy(ROOT/name, tree/name)
        subprocess.run(["git", "init", "-q", "."], cwd=tree, check=True)
        for module in (tree/"ncib").glob("*.py"):
            if module.name != "__init__.py": module.unlink()
        export(tree)
        files = lambda root: {p.relative_to(root).as_posix() for p in root.rglob("*.py")
                              if "__pycache__" not in p.parts}
        there, wanted = files(ROOT/"ncib"), files(tree/"ncib")
        out = [f"ncib/{f} is missing: no export of it was committed" for f in sorted(wanted - there)]
        out += [f"ncib/{f} comes from no notebook" for f in sorted(there - wanted)]
        out += [f"ncib/{f} is not what its notebook exports" for f in sorted(there & wanted)
                if not filecmp.cmp(ROOT/"ncib"/f, tree/"ncib"/f, shallow=False)]
    out += [f"{file.relative_to(ROOT)} shows a widget of a kernel that is gone in place of its copy"
            for file, _, dead in notebooks() if dead]
    if (ROOT/"README.md").read_text(encoding="utf-8") != readme():
        out.append("README.md is not what nbs/index.ipynb gives")
    return out


if __name__ == "__main__":
    if "--write" in sys.argv: sys.exit(write())
    if found := problems():
        print(*found, "run `make sync` and commit the result", sep="\n")
        sys.exit(1)
    print("notebooks, package and README agree")

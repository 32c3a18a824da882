"""The house in numbers: who imports whom, at what grain it is written.  python tools/structure.py [--all | --picture]

Prints one line for each figure, its limit beside it, and what breaks a limit; ends with 1 if anything does. With --all
it names every place, and with --picture it draws the house instead: see picture.py.
"""
import ast
import json
import re
import statistics
import sys
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ["Ground", "Geometry", "Information", "Encoders", "Story", "Showing"]    # by the first digit of a notebook
ARROWS = 107 # as many as version 0.1.0 had, between 33 modules
WIDTH, WORDS = 120, 40
OTHERS = {"_modidx.py", "d3.js"}     # written by nbdev, and by others
WIDE = ["ncib/*.py", "ncib/static/*", "tests/*.py", "tools/*.py", "benchmarks/*.py", "experiments/*.py", "setup.py"]


def notebooks() -> dict[str, Path]:
    "Module → its notebook, in the order of the numbers."
    found = {}
    for file in sorted((ROOT/"nbs/api").glob("*.ipynb")):
        for source in sources(file, "code"):
            if name := re.search(r"^#\| default_exp (\w+)", source, re.M): found[name[1]] = file
    return found


@cache
def cells(file: Path) -> list: return json.loads(file.read_text(encoding="utf-8"))["cells"]


def sources(file: Path, kind: str) -> list[str]:
    return ["".join(c["source"]) for c in cells(file) if c["cell_type"] == kind]


def exported(file: Path) -> list[str]:
    "The exported cells of a notebook without directives; cells of imports alone do not count."
    found = [re.sub(r"^#\|.*\n?", "", s, flags=re.M).strip() for s in sources(file, "code")
             if re.search(r"^#\| export", s, re.M)]
    return [s for s in found if not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(s).body)]


def imports(module: str) -> list[ast.ImportFrom]:
    "The imports of a module from other modules of the package, late ones too."
    tree = ast.parse((ROOT/f"ncib/{module}.py").read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module]


def floors(below: dict[str, set]) -> dict[str, int]:
    "How many modules lie under each, along the longest way down."
    height = {}
    for module in TopologicalSorter(below).static_order():
        height[module] = 1 + max((height[b] for b in below[module]), default=0)
    return height


def crossings(place: dict[str, int], below: dict[str, set]) -> list[str]:
    "Imports that the sections forbid: anything above, and between Geometry and Information."
    section = {m: SECTIONS[place[m] // 10] for m in place}
    return [f"{m} ({section[m]}) imports {b} ({section[b]})" for m in below for b in below[m]
            if place[b] >= place[m] or {section[m], section[b]} == {"Geometry", "Information"}]


def wide() -> list[str]:
    return [f"{file.relative_to(ROOT)}:{i} has {len(line)} columns" for pattern in WIDE
            for file in sorted(ROOT.glob(pattern))
            if file.name not in OTHERS and file.suffix in {".py", ".js", ".css"}
            for i, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
            if len(line) > WIDTH and not line.startswith("__all__")]            # which nbdev writes


def parameters(node: ast.FunctionDef) -> int:
    "Parameters of a function; keyword options of a public one do not count, nor does `self`."
    positional = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")]
    optional = len(node.args.defaults) if not node.name.startswith("_") or node.name == "__init__" else 0
    keywords = 0 if not node.name.startswith("_") or node.name == "__init__" else len(node.args.kwonlyargs)
    return len(positional) - optional + keywords


def functions() -> list[tuple[str, int]]:
    return [(f"{file.stem}.{n.name}", parameters(n)) for file in sorted((ROOT/"ncib").glob("*.py"))
            for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]


def prose() -> "list[tuple[str, str]]":
    "Where, text: the markdown of the notebooks and of the front pages, and the docstrings."
    files = sorted(f for f in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts)
    found = [(str(f.relative_to(ROOT)), s) for f in files for s in sources(f, "markdown")]
    found += [(n, (ROOT/n).read_text(encoding="utf-8")) for n in ("CONTRIBUTING.md", "CHANGELOG.md")]
    for file in sorted((ROOT/"ncib").glob("*.py")):
        for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(n)):
                found.append((f"ncib/{file.name} {getattr(n, 'name', '')}".strip(), text))
    return found


def sentences(text: str) -> list[str]:
    "Sentences of prose: formulas count as one word, links as their text; code, tables and lists' items stand apart."
    text = re.sub(r"(?s)```.*?```|\$\$.*?\$\$|<[^>]+>|:::.*?:::", " ", text)
    text = re.sub(r"\n[ \t]*\n( {4}[^\n]*(\n|$))+", "\n\n", text)                # indented code
    text = re.sub(r"\$[^$]+\$|`[^`]+`", "X", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s|\n#+ |\|", "\n" + text)
    return [s.strip() for b in blocks for s in re.split(r"(?<=[.!?:;])[\"')*_]*\s+", " ".join(b.split())) if s.strip()]


def long_sentences() -> list[str]:
    found = [(where, s) for where, text in prose() for s in sentences(text)]
    return [f"{where}: {len(s.split())} words: {s[:90]}…" for where, s in found if len(s.split()) > WORDS]


def main() -> int:
    place = {m: int(f.stem[:2]) for m, f in notebooks().items()}
    below = {m: {n.module for n in imports(m)} for m in place}
    private = [f"{m} imports {n.module}.{a.name}" for m in place for n in imports(m) for a in n.names
               if a.name.startswith("_")]
    try: height, circles = floors(below), []
    except CycleError as e: height, circles = {"": 0}, [" → ".join(e.args[1])]
    lengths = {f"{m}, cell {i}": len(s.splitlines()) for m, f in notebooks().items() for i, s in enumerate(exported(f))}
    many = {name: n for name, n in functions() if n > 8}
    arrows = sum(map(len, below.values()))
    figures = [
        ("modules", len(place), None, []),
        ("arrows between them", arrows, ARROWS, []),
        ("arrows up, or between Geometry and Information", crossings(place, below), 0, None),
        ("circles", circles, 0, None),
        ("floors", max(height.values()), 11, []),
        ("private names over a wall", private, 0, None),
        ("lines over 120 columns", wide(), 0, None),
        ("longest exported cell, lines", max(lengths.values()), 60,
         [f"{k}: {n}" for k, n in lengths.items() if n > 60]),
        ("median exported cell, lines", statistics.median(lengths.values()), 15, []),
        ("functions of more than 8 parameters", [f"{k}: {n}" for k, n in many.items()], 0, None),
        ("sentences over 40 words", long_sentences(), 0, None),
    ]
    failed = False
    for name, value, limit, why in figures:
        if why is None: value, why = len(value), value
        over = limit is not None and value > limit
        failed |= over
        print(f"{name:48} {value:>6}" + ("" if limit is None else f"   (at most {limit})") + ("   <<<" if over else ""))
        if over and (len(why) <= 20 or "--all" in sys.argv): print(*(f"    {w}" for w in why), sep="\n")
        elif over:
            count = Counter(re.split(r"[:, ]", w)[0] for w in why)
            print(*(f"    {n:4} in {k}" for k, n in count.most_common()), sep="\n")
    return int(failed)


if __name__ == "__main__":
    if "--picture" in sys.argv:
        import picture
        sys.exit(picture.write())
    sys.exit(main())

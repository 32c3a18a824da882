"""The house as a picture: its sections as bands that stand on one another, its modules as boxes, all from the imports.

`python tools/structure.py --picture` writes it to `nbs/images/house.svg` and into the page that shows it.
"""
import json

from structure import ROOT, SECTIONS, imports, notebooks

FILE, PAGE = ROOT/"nbs/images/house.svg", ROOT/"nbs/api/overview.ipynb"
WIDTH, GAP, TITLE, LINE, CHARACTER = 860, 30, 34, 31, 7.3       # pixels; a character of the modules' names
FLOORS = [["Showing"], ["Story"], ["Encoders"], ["Geometry"], ["Ground"]]
BESIDE = "Information"                                          # Encoders stands on Geometry; this beside both
SUBJECT = {
    "Ground": "checks, files, moments of features", "Geometry": "where samples and class means lie",
    "Information": "what two encoders share", "Encoders": "images, networks, losses, runs",
    "Story": "a pair, checkpoint by checkpoint", "Showing": "figures, reports, explorers, commands",
}
COLOURS = dict(zip(SECTIONS, ("#8C8C8C", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"), strict=True))


def section_imports() -> dict[str, set[str]]:
    "Section → the sections that its modules import from."
    section = {m: SECTIONS[int(f.stem[:2])//10] for m, f in notebooks().items()}
    return {s: {section[n.module] for m in section if section[m] == s for n in imports(m)} - {s} for s in SECTIONS}


def direct(below: dict[str, set[str]]) -> list[tuple[str, str]]:
    "The arrows that no chain of other arrows replaces."
    def under(s): return below[s].union(*(under(b) for b in below[s]))
    return [(s, b) for s in below for b in SECTIONS if b in below[s]
            and not any(b in under(other) for other in below[s] - {b})]


def rows(names: list[str], width: float) -> list[list[tuple[str, float, float]]]:
    "Names in lines that fit: (name, left, width of its box) each."
    lines, x = [[]], 0.
    for name in names:
        box = CHARACTER*len(name) + 16
        if lines[-1] and x + box > width: lines, x = [*lines, []], 0.
        lines[-1].append((name, x, box))
        x += box + 8
    return lines


def places(modules: dict[str, list[str]]) -> dict[str, tuple[float, float, float, float]]:
    "Section → left, top, width, height of its band."
    half, out, y = (WIDTH - GAP)/2, {}, 0.
    high = lambda s, width: TITLE + LINE*len(rows(modules[s], width - 28)) + 9
    for (s,) in FLOORS:
        width = half if s in ("Encoders", "Geometry") else WIDTH
        out[s] = (0., y, width, high(s, width))
        y += out[s][3] + GAP
    top, bottom = out["Encoders"][1], sum(out["Geometry"][i] for i in (1, 3))
    return out | {BESIDE: (half + GAP, top, half, bottom - top)}


def band(section: str, names: list[str], place: tuple[float, float, float, float]) -> str:
    x, y, width, height = place
    colour = COLOURS[section]
    out = [f'<rect x="{x + 1:g}" y="{y + 1:g}" width="{width - 2:g}" height="{height - 2:g}" rx="6" fill="{colour}" '
           f'fill-opacity=".13" stroke="{colour}" stroke-width="1.5"/>',
           f'<text x="{x + 14:g}" y="{y + 24:g}"><tspan font-size="16" font-weight="600">{section}</tspan>'
           f'<tspan dx="10" font-size="13">{SUBJECT[section]}</tspan></text>']
    for i, line in enumerate(rows(names, width - 28)):
        top = y + TITLE + LINE*i + 3
        for name, left, box in line:
            out.append(f'<rect x="{x + 14 + left:g}" y="{top:g}" width="{box:g}" height="24" rx="4" fill="{colour}" '
                       f'fill-opacity=".16" stroke="currentColor" stroke-opacity=".45"/>'
                       f'<text x="{x + 14 + left + box/2:g}" y="{top + 16.5:g}" text-anchor="middle" font-size="12" '
                       f'font-family="ui-monospace, monospace">{name}</text>')
    return "\n".join(out)


def arrow(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> str:
    "From the foot of one band to the head of another; across, where they stand beside each other."
    left, right = max(a[0], b[0]), min(a[0] + a[2], b[0] + b[2])
    if left < right:
        x, (y, end) = (left + right)/2, (a[1] + a[3], b[1]) if a[1] < b[1] else (a[1], b[1] + b[3])
        return f'<path d="M{x:g} {y + 3:g}V{end - 6:g}"/>'
    (x, end) = (a[0] + a[2], b[0]) if a[0] < b[0] else (a[0], b[0] + b[2])
    y = (max(a[1], b[1]) + min(a[1] + a[3], b[1] + b[3]))/2
    return f'<path d="M{x:g} {y:g}H{end + (-6 if x < end else 6):g}"/>'


def house() -> str:
    "The picture: text and arrows in the colour of the text around it, so that it is read on light and on dark pages."
    modules = {s: [m for m, f in notebooks().items() if SECTIONS[int(f.stem[:2])//10] == s] for s in SECTIONS}
    place = places(modules)
    arrows = direct(section_imports())
    height = max(y + h for _, y, _, h in place.values())
    says = "The sections of ncib and their modules. " + " ".join(
        f"{s} ({', '.join(modules[s])}) imports from {' and '.join(b for a, b in arrows if a == s) or 'nothing'}."
        for s in SECTIONS)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{says}" '
        f'fill="currentColor" font-family="system-ui, sans-serif" style="width: 100%; max-width: {WIDTH}px">',
        '<style>@media (prefers-color-scheme: dark) { svg:root { color: #e2e5e9 } }</style>',      # where it is a file
        '<marker id="house-head" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8Z"/></marker>',
        *(band(s, modules[s], place[s]) for s in SECTIONS),
        '<g stroke="currentColor" stroke-width="1.5" marker-end="url(#house-head)">',
        *(arrow(place[a], place[b]) for a, b in arrows),
        '</g>', '</svg>', ''])


def shown(page: dict) -> list:
    "The outputs of the cell of the page that shows the picture."
    return next(c for c in page["cells"] if c["cell_type"] == "code" and FILE.name in "".join(c["source"]))["outputs"]


def write():
    FILE.write_text(house(), encoding="utf-8")
    page = json.loads(PAGE.read_text(encoding="utf-8"))
    shown(page)[0]["data"]["text/html"] = house().splitlines(keepends=True)
    PAGE.write_text(json.dumps(page, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

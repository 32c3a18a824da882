"""Draws logo.svg and favicon.svg beside itself: the simplex ETF of four classes, a tetrahedron, each class fallen onto
its mean.

    python nbs/images/draw_logo.py
"""
from pathlib import Path

import numpy as np

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00")      # Okabe & Ito
K = len(COLOURS)


def corners() -> np.ndarray: # (K, 3)
    "Unit class means with all cosines −1/(K−1), seen along the first."
    values, vectors = np.linalg.eigh(np.eye(K) - 1/K)
    etf = vectors[:, values > .5]*np.sqrt(K/(K - 1))
    towards = etf[0]/np.linalg.norm(etf[0])                   # the first class looks at us …
    frame = np.linalg.qr(np.c_[towards, np.eye(3)[:, :2]])[0]
    frame[:, 0] *= np.sign(frame[:, 0]@towards)
    x = etf@frame[:, [1, 2, 0]]
    turn = np.arctan2(x[1, 0], x[1, 1])                       # … and the second is at the top
    x[:, :2] = x[:, :2]@np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return x


def svg(samples: int, radius: float, edge: float) -> str:
    """The picture in a 100 × 100 box: edges, then corners from back to front, each with a few of its samples on their
    way in."""
    x, g = corners(), np.random.default_rng(0)
    place = lambda p: (50 + 43*p[0], 60 - 43*p[1])
    lines = "".join(f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
                    for i in range(K) for j in range(i) for a, b in [(place(x[i]), place(x[j]))])
    out = [f'<g stroke="#8C8C8C" stroke-width="{edge}" stroke-linecap="round">{lines}</g>']
    for k in np.argsort(x[:, 2]):
        spread = np.abs(g.normal(size=samples))*.1 + .2
        angle = g.uniform(0, 2*np.pi, samples)
        dots = [place(x[k, :2] + s*np.array([np.cos(a), np.sin(a)])) + (.22*radius,)
                for s, a in zip(spread, angle)] + [place(x[k]) + (radius,)]
        circles = "".join(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{r:.1f}"/>' for cx, cy, r in dots)
        out.append(f'<g fill="{COLOURS[k]}">{circles}</g>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100" viewBox="0 0 100 100">'
            f'{"".join(out)}</svg>\n')


if __name__ == "__main__":
    here = Path(__file__).parent
    (here/"logo.svg").write_text(svg(samples=6, radius=8.5, edge=2), encoding="utf-8")
    (here/"favicon.svg").write_text(svg(samples=0, radius=13, edge=5), encoding="utf-8")

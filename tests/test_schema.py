"One schema: what Python packs for the explorers, and the names that their JavaScript uses, are in it and nothing else."
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ncib import frames, pages, plots
from ncib.beta_frames import discrete_frames, gaussian_frames
from ncib.core import InputError
from ncib.frames import checkpoint_frames, colours, key_of, schema
from ncib.gib import GaussianIB, relevances
from ncib.pages import check_schema, checkpoint_payload, sweep_payload, unpack_arrays

STATIC = Path(pages.__file__).parent/"static"
SCRIPTS = {p.name: p.read_text(encoding="utf-8") for p in sorted(STATIC.glob("*.js")) if p.name != "d3.js"}
KINDS = ("checkpoints", "sweep")


def keys(kind, arrays): return {a["key"] for a in schema()[kind]["arrays"].values() if a.get("kind", arrays) == arrays}


def templates(kind, names):
    "The templates that names match."
    return {a["key"] for n in names for pattern, a in pages._patterns(kind) if pattern.fullmatch(n)}


def test_the_schema_is_whole():
    s = json.loads((STATIC/"schema.json").read_text(encoding="utf-8"))
    assert s == schema() and s["words"]["relevance"] == list(s["relevances"]) == list(relevances)
    assert s["words"]["part"] == list(frames.parts) and s["words"]["side"] == list(frames.sides)
    assert colours is plots.colours and colours == s["colours"]                 # one palette
    for kind in KINDS:
        arrays = s[kind]["arrays"]
        assert len({a["key"] for a in arrays.values()}) == len(arrays)
        for name, a in arrays.items():
            assert set(a) <= {"kind", "key", "dtype", "shape", "unit", "what"}, name
            assert a["dtype"] in ("integer", "float"), name
            assert a["what"] and set(re.findall(r"\{(\w+)\}", a["key"])) <= set(s["words"]), name
        assert all(f["what"] and f["type"] for f in s[kind]["info"].values())


def test_what_python_packs_is_in_the_schema_and_all_of_it(short_timeline):
    "Every array and field of the schema is written by some explorer."
    f = checkpoint_frames(short_timeline.of("backbone"))
    (info, arrays), = unpack_arrays(checkpoint_payload([f], limit=20))
    fields, groups = schema()["checkpoints"]["info"], frames.Superclasses(["x", "y"], torch.arange(10) % 2)
    (_, grouped), = unpack_arrays(checkpoint_payload([replace(f, superclasses=groups)], limit=20))
    assert templates("checkpoints", grouped) == keys("checkpoints", "") and set(info) == set(fields)
    assert set(grouped) - set(arrays) == {key_of("mode_spread", part=p, side=s, relevance=r)
                                          for p in frames.parts for s in frames.sides for r in relevances}
    assert all(set(e) == set(fields["estimates"]["of"]) for e in info["estimates"])
    for c in schema()["checkpoints"]["columns"].values():
        assert c["key"].format(part="train", side="b") in info["table"]
    x = np.random.default_rng(0).normal(size=(60, 4))
    sweeps = {"gaussian": gaussian_frames(GaussianIB.fit(x, x + 1e-1*x[::-1]), x, np.arange(60) % 3),
              "discrete": discrete_frames(np.eye(3)/6 + 1/18)}
    for kind, sweep in sweeps.items():
        (info, arrays), = unpack_arrays(sweep_payload(sweep))
        of_pair = {"encoders", "part", "side", "layer"} if kind == "gaussian" else set()
        assert set(arrays) == keys("sweep", kind)
        assert set(info) | of_pair == {n for n, i in schema()["sweep"]["info"].items() if i.get("kind", kind) == kind}


@pytest.mark.parametrize("info, arrays, words", [
    ({"colour": 1}, {}, "fields must be in the schema of checkpoints, got colour"),
    ({}, {"test/c/unit": np.ones(2)}, "got test/c/unit"),
    ({}, {"chosen/test/a/cosines": np.ones((2, 3, 3))}, "got chosen/test/a/cosines"),
    ({}, {"test/labels": np.ones(3)}, "test/labels must be integer of 1 axes"),
    ({}, {"test/a/cosines": np.ones((3, 3))}, r"3 axes \(epoch, class, class\), got float of shape \(3, 3\)")])
def test_other_names_and_shapes_are_refused(info, arrays, words):
    with pytest.raises(InputError, match=words): check_schema("checkpoints", info, arrays)


def test_keys_are_those_of_the_schema():
    assert key_of("points", view="chosen/", part="test", side="b") == "chosen/test/b/points"
    with pytest.raises(KeyError): key_of("colour", part="test")


# ---------------------------------------------------------------- JavaScript

def used_arrays(text):
    "Names of arrays in a script: the idioms by which arrays are reached."
    calls = r"(?:keyOf|\.row|\.mode|\.own|\.now|\.array)\((?:\w+(?:\.\w+)?, )?[\"'](\w+)[\"']"
    lists = r"\[([^\]\[]*)\]\.map\(\(name\) => (?:at\()?[\w.]+(?:\.row\(|\.arrays\[)name"
    return (set(re.findall(calls, text)) | set(re.findall(r"\barrays\.(\w+)", text))
            | {n for names in re.findall(lists, text) for n in re.findall(r"[\"'](\w+)[\"']", names)})


def used_fields(text):
    "Names of fields: of `info`, or taken out of it in braces."
    out = set(re.findall(r"\binfo(?:\([\w.]*\))?\??\.(\w+)", text))
    for names in re.findall(r"\{([\w, ]+)\} = [\w.]*\binfo\b(?:\([\w.]*\))?[,;]", text):
        out |= {n.strip() for n in names.split(",")}
    return out


def test_the_idioms_are_found():
    text = ('const a = keyOf("points", {part}); app.mode(this.c, "excess"); this.own("unit"); x.arrays.log_excess; '
            'const { epochs, marks } = app.info(c); this.info.notes; app.info(this.c).table; const {k1} = this.info; '
            '["ixt", "iyt"].map((name) => app.row(name)); ["axes"].map((name) => at(this.arrays[name], c));')
    assert used_arrays(text) == {"points", "excess", "unit", "log_excess", "ixt", "iyt", "axes"}
    assert used_fields(text) == {"epochs", "marks", "notes", "table", "k1"}


def test_javascript_uses_no_other_name():
    known = {n for kind in KINDS for n in schema()[kind]["arrays"]}
    fields = {n for kind in KINDS for n in schema()[kind]["info"]}
    arrays, found = ({f: used(text) for f, text in SCRIPTS.items()} for used in (used_arrays, used_fields))
    assert not {f: names - known for f, names in arrays.items() if names - known}
    assert not {f: names - fields for f, names in found.items() if names - fields}
    begun = {n for text in SCRIPTS.values() for n in re.findall(r"arrays\[`(\w+)\$\{\w+\}`\]", text)}
    assert begun and all(any(n.startswith(b) for n in known) for b in begun)
    assert set().union(*arrays.values()) >= {"excess", "mode_means", "threshold", "log_excess", "weight", "variates"}
    assert set().union(*found.values()) >= {"epochs", "classes", "encoders", "names_x", "k1", "estimates", "marks"}


@pytest.mark.parametrize("file", SCRIPTS)
def test_no_name_is_spelt_out_a_second_time(file):
    "Keys of checkpoints, columns and colours come from the schema."
    text, s = SCRIPTS[file], schema()
    assert set(re.findall(r"columnOf\([\"'](\w+)[\"']", text)) <= set(s["checkpoints"]["columns"])
    assert set(re.findall(r"\bheld\([\"'](\w+)[\"']\)", text)) <= set(s["data"])
    quoted = re.findall(r"[`\"']((?:chosen/|train/|test/|\$\{[^}]*\}/)[^`\"']*)[`\"']", text)
    assert set(quoted) <= set(s["words"]["view"])
    assert not re.findall(r"[\"'`](?:test_accuracy|test_twin_separation)[^`\"']*[\"'`]|_nc1_", text)
    assert not [c for c in colours.values() if c.lower() in text.lower()]

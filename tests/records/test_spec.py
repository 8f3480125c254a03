"""The grammar of what a user names, and the options it sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchbox import BenchboxError
from benchbox.records.specs import (
    NAME,
    Spec,
    configure,
    describe,
    options_of,
    parse_composition,
    parse_spec,
    quote,
    split_name,
)


class Box:
    """A class with an option of each type."""

    def __init__(
        self,
        *,
        size: int = 3,
        level: float = 0.1,
        fast: bool = False,
        mode: Literal["soft", "hard"] = "soft",
        weights: Path | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("size must be at least 1")
        self.values = (size, level, fast, mode, weights)


class Level:
    """A stand-in for a noise model: its level has a title, so it always shows."""

    level_title = "noise standard deviation"

    def __init__(self, level: float = 0.1, width: int = 2) -> None:
        self.level, self.width = level, width


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("median", Spec("median")),
        ("median:size=5", Spec("median", None, (("size", "5"),))),
        ("gaussian:25/255", Spec("gaussian", "25/255")),
        ("poisson-gaussian:30,sigma=0.01", Spec("poisson-gaussian", "30", (("sigma", "0.01"),))),
        ('command:run="./a {in}, \\"b\\" +x=1"', Spec("command", None, (("run", './a {in}, "b" +x=1'),))),
        ('unet:weights="my file.npz"', Spec("unet", None, (("weights", "my file.npz"),))),
    ],
)
def test_a_specification_is_read(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Median",
        "median:",
        "median:size=",
        "median:size=3,size=5",
        "median:3,5",
        'median:size="3',
        "a b",
        "median:=3",
    ],
)
def test_what_is_no_specification_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BenchboxError) as caught:
        parse_spec(text)
    assert caught.value.hint


def test_plus_composes_only_before_a_name() -> None:
    parts = parse_composition("gaussian:1e+2+salt-pepper:0.05")
    assert parts == (Spec("gaussian", "1e+2"), Spec("salt-pepper", "0.05"))


@given(st.text(min_size=1))
def test_a_quoted_value_reads_back(value: str) -> None:
    assert parse_spec(f"unet:weights={quote(value)}").options == (("weights", value),)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spec = parse_spec(text)
    except BenchboxError as error:
        assert error.hint
    else:
        assert spec.name


NAMES = st.from_regex(NAME, fullmatch=True)
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SPECS = st.builds(
    Spec,
    NAMES,
    st.none() | st.text(min_size=1),
    st.lists(st.tuples(KEYS, st.text(min_size=1)), max_size=4, unique_by=lambda pair: pair[0]).map(tuple),
)


def written(spec: Spec) -> str:
    values = [] if spec.value is None else [quote(spec.value)]
    values += [f"{key}={quote(text)}" for key, text in spec.options]
    return spec.name + (":" + ",".join(values) if values else "")


@given(SPECS)
def test_what_is_written_reads_back(spec: Spec) -> None:
    assert parse_spec(written(spec)) == spec


@given(st.lists(SPECS, min_size=1, max_size=3))
def test_a_composition_reads_back(specs: list[Spec]) -> None:
    assert parse_composition("+".join(map(written, specs))) == tuple(specs)


@given(st.text(alphabet='abz09:,=+"\\ ./-_', max_size=30))
def test_text_near_the_grammar_is_read_or_refused(text: str) -> None:
    """What is read keeps its meaning when it is written again."""
    try:
        specs = parse_composition(text)
    except BenchboxError as error:
        assert error.hint
    else:
        assert parse_composition("+".join(map(written, specs))) == specs


@given(st.integers(1, 10**6), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(min_size=1))
def test_options_survive_their_canonical_form(size: int, level: float, fast: bool, weights: str) -> None:
    given_values = f"size={size},level={level!r},fast={str(fast).lower()},weights={quote(weights)}"
    values = configure(Box, f"box:{given_values}").values
    again = configure(Box, configure(Box, f"box:{given_values}").spec).values
    defaults = {"size": 3, "level": 0.1, "fast": False, "weights": None}
    assert {**defaults, **again} == {**defaults, **values}


def test_options_are_typed() -> None:
    box = configure(Box, "box:size=5,level=25/255,fast=true,mode=hard,weights=w.npz").make()
    assert box.values == (5, 25 / 255, True, "hard", Path.cwd() / "w.npz")
    assert configure(Box, "box:7").make().values[0] == 7
    assert configure(Box, "box:weights=none").values == {"weights": None}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("box:sise=5", "no option 'sise'", "did you mean 'size'?"),
        ("box:size=five", "size=five is not a whole number", "box:size=3"),
        ("box:mode=sotf", "did you mean 'soft'?", "mode=soft"),
        ("box:level=1/0", "level=1/0 is not a number", "level=0.1"),
        ("box:level=nan", "level=nan is not a number", "level=0.1"),
        ("box:fast=yes", "fast=yes is not true or false", "fast=false"),
        ("box:size=0", "size must be at least 1", "box takes size=int"),
        ("box:5,size=5", "set twice", "keep one"),
    ],
)
def test_a_wrong_option_says_what_fits(text: str, message: str, hint: str) -> None:
    with pytest.raises(BenchboxError) as caught:
        configure(Box, text).make()
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("box:size=3", "box"),
        ("box:5", "box:size=5"),
        ("box:mode=hard,size=5", "box:size=5,mode=hard"),
        ("box:level=1/4", "box:level=0.25"),
        ('box:weights="/a b"', 'box:weights="/a b"'),
    ],
)
def test_the_canonical_form_identifies(text: str, identity: str) -> None:
    assert configure(Box, text).spec == identity
    assert configure(Box, identity).spec == identity


def test_the_level_of_a_noise_always_shows() -> None:
    assert configure(Level, "level").spec == "level:0.1"
    assert configure(Level, "level:1/10").spec == "level:0.1"
    assert configure(Level, "level:30,width=4").spec == "level:30,width=4"


def test_an_option_needs_a_type_and_a_default() -> None:
    class NoDefault:
        def __init__(self, *, size: int) -> None: ...

    class NoType:
        def __init__(self, *, size=None) -> None: ...  # type: ignore[no-untyped-def]

    class OddType:
        def __init__(self, *, size: list[int] | None = None) -> None: ...

    class Any:
        def __init__(self, **options: int) -> None: ...

    for cls, word in ((NoDefault, "no default"), (NoType, "no type"), (OddType, "list"), (Any, "named")):
        with pytest.raises(BenchboxError, match=word):
            options_of(cls)


def test_a_word_none_is_not_taken_for_no_value() -> None:
    class Network:
        def __init__(self, *, sigma: Literal["none", "channel"] | None = None, path: Path | None = None) -> None: ...

    assert describe(Network, "net") == "net takes sigma=none|channel (default unset), path=path|none (default none)"


def test_a_path_of_a_user_that_does_not_exist_is_a_path() -> None:
    assert configure(Box, 'box:weights="~no-such-user/w"').values == {"weights": Path.cwd() / "~no-such-user/w"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DnCNN (ours)=onnx:path=dncnn.onnx", ("DnCNN (ours)", "onnx:path=dncnn.onnx")),
        ("mine = median", ("mine", " median")),
        ("median:size=5", ("", "median:size=5")),
        ("median", ("", "median")),
        ('command:run="a=b {in} {out}"', ("", 'command:run="a=b {in} {out}"')),
    ],
)
def test_the_name_of_a_row_comes_before_its_specification(text: str, expected: tuple[str, str]) -> None:
    assert split_name(text) == expected


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(BenchboxError, match="the name before = is empty"):
        split_name("=median")

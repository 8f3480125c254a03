"""A file of tuned options is read as it was written, and takes the place of options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchbox import BenchboxError
from benchbox.records.run import Protocol
from benchbox.records.specs import Spec, parse_spec
from benchbox.records.tuned import TunedOptions, apply_tuned


def example() -> TunedOptions:
    return TunedOptions(
        denoiser="median",
        options={"size": "5", "passes": "2"},
        dataset="fer2013",
        split="Training",
        images=500,
        fingerprint="ab" * 16,
        noises=("gaussian:0.1",),
        protocol=Protocol(3, True),
        metric="psnr",
        score=24.5,
        start_score=24.25,
        candidates=7,
        run="20260101-000000-abcd",
    )


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    example().save(file)
    assert TunedOptions.load(file) == example()


def test_a_file_takes_the_place_of_options(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    example().save(file)
    spec, tuned = apply_tuned(parse_spec(f"median:@{file}"))
    assert spec == Spec("median", None, (("size", "5"), ("passes", "2")))
    assert tuned is not None
    assert tuned.label == "fer2013 Training"
    assert apply_tuned(parse_spec("median:size=3")) == (Spec("median", None, (("size", "3"),)), None)


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    example().save(file)
    with pytest.raises(BenchboxError, match="has options for median, not for wiener"):
        apply_tuned(parse_spec(f"wiener:@{file}"))
    with pytest.raises(BenchboxError, match="No such file"):
        apply_tuned(parse_spec(f"median:@{tmp_path / 'nothing.json'}"))
    for text in ("[]", "{", '{"denoiser": "median"}', json.dumps({"denoiser": 3})):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(BenchboxError, match=r"tuned options .*tuned\.json"):
            TunedOptions.load(file)
    example().save(file)
    file.write_text(
        re.sub(r'"score": [^,]+', '"score": NaN', file.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    with pytest.raises(BenchboxError, match=r"tuned\.json: NaN is not a JSON number"):
        TunedOptions.load(file)
    with pytest.raises(BenchboxError, match="cannot write"):
        example().save(tmp_path / "nowhere" / "tuned.json")

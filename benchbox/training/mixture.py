"""A mixture of training noises: noise models with ranges of levels, one drawn for each image."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchbox.api.errors import BenchboxError
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise import Composed
from benchbox.records.specs import Configured, Spec, options_of, parse_composition
from benchbox.registry import Registry

RANGE = ".."
FEW = 3
"""Largest number of noise models for which a card lists every level."""
_SERIES = tuple(mantissa * 10.0**power for power in range(-4, 4) for mantissa in (1, 2, 5))


@dataclass(frozen=True)
class _Part:
    """One noise model and the ranges of its options."""

    fixed: Configured[NoiseModel]
    ranges: dict[str, tuple[float, float]]
    whole: frozenset[str]

    def draw(self, rng: np.random.Generator) -> NoiseModel:
        """Draw a value from each range, uniformly."""
        values = dict(self.fixed.values)
        for key, (low, high) in self.ranges.items():
            if key in self.whole:
                values[key] = int(rng.integers(int(low), int(high) + 1))
            else:
                values[key] = float(rng.uniform(low, high))
        return self.fixed.cls(**values)


class Mixture:
    """Noises such as ``gaussian:0..0.3`` and ``poisson:10..60+gaussian:0.02``; each image draws one."""

    def __init__(self, texts: tuple[str, ...], registry: Registry) -> None:
        self.texts = tuple(text.strip() for text in texts)
        self._noises = [tuple(_part(spec, text, registry) for spec in parse_composition(text)) for text in self.texts]

    def require_sigma(self, denoiser: str) -> None:
        """Refuse a noise without a level, which the denoiser requires."""
        grey = np.full((8, 8), 0.5, np.float32)
        for text, parts in zip(self.texts, self._noises, strict=True):
            if any(part.fixed.make().sigma_of(grey) is None for part in parts):
                raise BenchboxError(
                    f"{denoiser} requires the noise level, but '{text}' has none",
                    hint="choose a --noise with a level, such as gaussian:0..0.3",
                )

    def draw(self, rng: np.random.Generator) -> NoiseModel:
        """Draw one of the noises, then its levels."""
        parts = self._noises[int(rng.integers(len(self._noises)))]
        models = tuple(part.draw(rng) for part in parts)
        return models[0] if len(models) == 1 else Composed(models)

    def levels(self) -> dict[str, NoiseModel]:
        """Single noises that represent the mixture in a card, by canonical name.

        A range is represented by the steps 1, 2, 5, 10, ... from a thirtieth of its upper end, and by that end.
        Compositions, noises with several ranges and mixtures of many models are shown at the models' default levels.
        """
        levels: dict[str, NoiseModel] = {}
        many = len({part.fixed.name for parts in self._noises for part in parts}) > FEW
        for parts in self._noises:
            if many or len(parts) > 1 or len(parts[0].ranges) != 1:
                models = tuple(part.fixed.make() for part in parts)
                levels["+".join(part.fixed.spec for part in parts)] = (
                    models[0] if len(models) == 1 else Composed(models)
                )
                continue
            part, (key, (low, high)) = parts[0], next(iter(parts[0].ranges.items()))
            least = max(low, self._highest(part.fixed.name, key) / 30)
            for step in sorted({step for step in _SERIES if least <= step * (1 + 1e-9) and step <= high} | {high}):
                level = step if step.is_integer() else float(f"{step:.4g}")
                if key in part.whole and not level.is_integer():
                    continue
                at_level = part.fixed.at({key: int(level) if key in part.whole else level})
                levels[at_level.spec] = at_level.make()
        return dict(sorted(levels.items()))

    def _highest(self, name: str, key: str) -> float:
        """Highest upper end of the ranges of one option."""
        return max(
            part.ranges[key][1]
            for parts in self._noises
            for part in parts
            if part.fixed.name == name and key in part.ranges
        )


def _part(spec: Spec, text: str, registry: Registry) -> _Part:
    """Separate the ranges of a specification from its fixed values."""
    model = registry.noise_model(spec.name)
    options = list(spec.options)
    if spec.value is not None:
        names = [option.name for option in options_of(model.cls)]
        options.insert(0, (names[0] if names else "", spec.value))
    fixed: list[tuple[str, str]] = []
    ranges: dict[str, tuple[float, float]] = {}
    for key, value in options:
        low, dots, high = value.partition(RANGE)
        if not dots:
            fixed.append((key, value))
            continue
        try:
            ranges[key] = float(Fraction(low)), float(Fraction(high))
        except (ValueError, ZeroDivisionError) as error:
            raise BenchboxError(
                f"'{text}': '{value}' is not a range of numbers",
                hint="write the lowest and highest value, as in 0..0.3",
            ) from error
        if ranges[key][0] >= ranges[key][1]:
            raise BenchboxError(f"'{text}': the range {value} is empty", hint="write the lower number first")
    plain = model.configured(Spec(spec.name, None, tuple(fixed)))
    whole = frozenset(option.name for option in options_of(model.cls) if option.type is int)
    for end in (0, 1):  # the model must accept both ends of a range
        values = [(key, repr(int(ends[end]) if key in whole else ends[end])) for key, ends in ranges.items()]
        model.configured(Spec(spec.name, None, (*fixed, *values))).make()
    return _Part(plain, ranges, whole)

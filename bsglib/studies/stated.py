"""Reads the claims of a study from its claims.yaml and adds the statistics that test them.

A claim in the file has the fields of `Claim`. Its rule names one of the functions in
`bsglib.claims`, with its arguments. `each: {NAME: [VALUES]}` makes one claim per value, for
example per network: the texts are then templates, filled in with NAME and with the numbers that
the study gives for it. `primary` may list the values whose claims are primary.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from bsglib import claims
from bsglib.claims import Claim, Measured, Rule

Statistics = Mapping[str, Callable[..., Measured]]  # by the claim's id
Numbers = Callable[..., Mapping[str, Any]]  # for templates, of the value under `each`


def read(file: Path, statistics: Statistics, numbers: Numbers = dict) -> tuple[Claim, ...]:
    """Return the claims of a file in its order.

    Args:
        file: claims.yaml.
        statistics: of every claim.
        numbers: the names and values of templates.

    Raises:
        ValueError: if a claim has no statistic, or a statistic no claim.
    """
    found = []
    for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
        each = entry.pop("each", None)
        ((name, values),) = each.items() if each else (("", [None]),)
        for value in values:
            fill = numbers(**{name: value}) if each else numbers()
            fields = {key: _filled(field, fill | {name: value}) for key, field in entry.items()}
            fields["rule"] = _rule(fields["rule"])
            if isinstance(primary := fields.get("primary"), list):
                fields["primary"] = value in primary
            statistic = statistics.get(fields["id"], _missing)
            found.append(Claim(**fields, statistic=statistic))
    ids = [claim.id for claim in found]
    unknown = [i for i in ids if i not in statistics] + [i for i in statistics if i not in ids]
    if unknown or len(set(ids)) < len(ids):
        raise ValueError(f"{file}: claims and statistics differ in {', '.join(unknown) or ids}")
    return tuple(found)


def _missing(*_: Any) -> Measured:
    raise AssertionError  # `read` refuses a claim without a statistic


def _filled(field: Any, values: Mapping[str, Any]) -> Any:
    """A text with its names replaced; within a mapping or a list, each text."""
    if isinstance(field, str):
        return field.format_map(values)
    if isinstance(field, dict):
        return {key: _filled(value, values) for key, value in field.items()}
    return [_filled(value, values) for value in field] if isinstance(field, list) else field


def _rule(stated: dict[str, Any]) -> Rule:
    """A rule from {above: 0}, {between: [-1, 1]}, {about: 9, factor: 1.5}, ratios: true."""
    stated = dict(stated)
    kind = next(name for name in ("about", "above", "below", "between") if name in stated)
    bounds = stated.pop(kind)
    bounds = bounds if isinstance(bounds, list) else [bounds]
    return getattr(claims, kind)(*map(float, bounds), **stated)

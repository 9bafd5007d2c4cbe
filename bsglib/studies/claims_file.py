"""Reads the claims of a study from its claims.yaml and adds the statistics that test them.

A claim in the file has the fields of `Claim`. Its rule says what the source claims of the
statistic, above, below or equal to a null value, names its kind of quantity in margins.yaml, and
may have the number that the source states and its spread:
`rule: {above: 1, margin: sharpness, stated: 9, spread: [2.4, 10.5]}`.
`each: {NAME: [VALUES]}` makes one claim per value, for example per network: the texts are then
templates, filled in with NAME and with the numbers that the study gives for it. `primary` may list
the values whose claims are primary, and `margin` of a rule may be a mapping from values to margins.
`as_run: {FIELD: VALUE}` makes a second claim with these fields, which tests what the source's code
does; its id ends in -as-run, and it is never primary.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bsglib.claims import AS_RUN, SUFFIX, Claim, Margin, Measured
from bsglib.verdicts import Rule

MARGINS = Path(__file__).with_name("margins.yaml")
CLAIMED = ("above", "below", "equal")
Statistics = Mapping[str, Callable[..., Measured]]  # by the claim's id
Numbers = Callable[..., Mapping[str, Any]]  # for templates, of the value under `each`


@cache
def margins(file: Path = MARGINS) -> dict[str, Margin]:
    """Return the margins of a file by their kind of quantity."""
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {name: Margin(name, **fields) for name, fields in found.items()}


def read(
    file: Path, statistics: Statistics, numbers: Numbers = dict, own_margins: Path | None = None
) -> tuple[Claim, ...]:
    """Return the claims of a file in its order.

    Args:
        file: claims.yaml.
        statistics: of every claim.
        numbers: the names and values of templates.
        own_margins: a file with kinds of quantities that margins.yaml lacks.

    Raises:
        ValueError: if a claim has no statistic, or a statistic no claim; or a rule or margin is not
            one.
    """
    known = margins() | (margins(own_margins) if own_margins else {})
    found = []
    for entry in _of_both_readings(yaml.safe_load(file.read_text(encoding="utf-8"))):
        each = entry.pop("each", None)
        ((name, values),) = each.items() if each else (("", [None]),)
        for value in values:
            fill = numbers(**{name: value}) if each else numbers()
            fields = {key: _filled(field, fill | {name: value}) for key, field in entry.items()}
            if isinstance(primary := fields.get("primary"), list):
                fields["primary"] = value in primary
            try:
                rule, margin = _rule(fields.pop("rule"), value, known)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{file}: claim {fields['id']}: {error}") from error
            statistic = statistics.get(fields["id"], _missing)
            found.append(Claim(**fields, rule=rule, margin=margin, statistic=statistic))
    ids = [claim.id for claim in found]
    unknown = [i for i in ids if i not in statistics] + [i for i in statistics if i not in ids]
    if unknown or len(set(ids)) < len(ids):
        raise ValueError(f"{file}: claims and statistics differ in {', '.join(unknown) or ids}")
    return tuple(found)


def _of_both_readings(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        as_run = entry.pop("as_run", None)
        yield dict(entry)
        if as_run is not None:
            run = {key: value for key, value in entry.items() if key != "primary"} | as_run
            yield run | {"id": f"{entry['id']}{SUFFIX}", "reading": AS_RUN}


def _missing(*_: Any) -> Measured:
    raise AssertionError  # `read` refuses a claim without a statistic


def _filled(field: Any, values: Mapping[str, Any]) -> Any:
    """A text with its names replaced; within a mapping or a list, each text."""
    if isinstance(field, str):
        return field.format_map(values)
    if isinstance(field, dict):
        return {key: _filled(value, values) for key, value in field.items()}
    return [_filled(value, values) for value in field] if isinstance(field, list) else field


def _rule(stated: dict[str, Any], value: Any, known: Mapping[str, Margin]) -> tuple[Rule, Margin]:
    """A rule and its margin from {above: 1, margin: sharpness, stated: 9}."""
    stated = dict(stated)
    claimed = [name for name in CLAIMED if name in stated]
    kind = stated.pop("margin", None)
    kind = kind.get(value) if isinstance(kind, dict) else kind
    if len(claimed) != 1 or kind not in known:
        needed = f"one of {', '.join(CLAIMED)}, and a margin of {', '.join(known)}"
        raise ValueError(f"rule {stated}, margin {kind!r}: needed is {needed}")
    margin, null = known[kind], float(stated.pop(claimed[0]))
    spread = tuple(map(float, stated.pop("spread", ()))) or None
    number = stated.pop("stated", None)
    rule = Rule(
        claimed[0],
        margin.size,
        ratios=margin.ratios,
        null=null,
        stated=None if number is None else float(number),
        spread=spread,
        **stated,
    )
    return rule, margin

"""The results of an experiment as sections of a report, and as files."""

from __future__ import annotations

import math

import numpy as np

from hpo import formatting
from hpo.analysis.ablation.contrasts import critical_value
from hpo.analysis.ablation.effects import Ablation
from hpo.analysis.ablation.verdicts import Class, ParameterEffect, Verdict
from hpo.document.document import Block, Bullets, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.report.ablation.charts import dose_response, pair_charts
from hpo.report.ablation.text import Wording, warnings_of
from hpo.search.space import describe_parameter

ORDER = (Verdict.WORTH_TUNING, Verdict.HARMFUL, Verdict.NOT_RESOLVED, Verdict.SAFE)
"""Verdicts in the order of a table."""
SHOWN = {Class.OPEN: "not decided", Class.EQUAL: "no difference", Class.SAME: "same runs", Class.MISSING: "-"}
"""Classes of values in a table, where they are not shown by their names."""


def ablation_sections(wording: Wording) -> list[Section]:
    """Return the verdict on each parameter, all values, pairs and the method."""
    return [
        *section(
            "What each hyperparameter is worth",
            lambda: _lead(wording),
            lambda: [Paragraph(line, "note") for line in warnings_of(wording.ablation)],
            lambda: verdict_table(wording),
            lambda: _meaning(wording),
            lambda: dose_response(wording),
        ),
        *section("Pairs", lambda: _pairs(wording), lambda: pair_charts(wording)),
        *section("All values", lambda: _value_table(wording)),
        *section("How it was measured", lambda: _method(wording)),
    ]


def ranked(ablation: Ablation) -> list[ParameterEffect]:
    """Return the parameters by verdict, and of each verdict the largest effect first."""

    def largest(effect: ParameterEffect) -> float:
        sizes = [
            abs(one.contrast.effect)
            for one in effect.others
            if one.contrast is not None and math.isfinite(one.contrast.effect)
        ]
        return max(sizes, default=0.0)

    return sorted(ablation.parameters, key=lambda one: (ORDER.index(one.verdict), -largest(one)))


def _lead(wording: Wording) -> list[Block]:
    ablation = wording.ablation
    design, base = ablation.design, ablation.measurements.values[0]
    known = base[np.isfinite(base)]
    value = formatting.metric(float(known.mean()) * ablation.measurements.sign) if len(known) else "-"
    noise = "" if ablation.noise is None else f" (± {_noise(wording)} from seed to seed)"
    return [
        Paragraph(
            f"Around the configuration of trial {design.trial} of study {design.study}, which reaches"
            f" {ablation.measurements.metric} {value}{noise}, each parameter was varied alone while all others stayed"
            f" as they are, from the same {formatting.counted(len(design.seeds), 'seed')} at each value.",
            "lead",
        ),
        Paragraph(f"The base: {formatting.parameters(design.base)}."),
    ]


def _noise(wording: Wording) -> str:
    assert wording.ablation.noise is not None
    return wording.size(wording.ablation.noise.deviation)


def verdict_table(wording: Wording) -> Table | None:
    """Return a row for each parameter: its verdict and finding."""
    design = wording.ablation.design
    rows = [
        (
            effect.parameter,
            design.recipe.get(effect.parameter) or formatting.parameter(design.base.get(effect.parameter)),
            wording.verdict(effect),
            wording.finding(effect),
        )
        for effect in ranked(wording.ablation)
    ]
    return Table(("parameter", "base", "verdict", "finding"), rows) if rows else None


def _meaning(wording: Wording) -> Bullets:
    margin = wording.size(wording.ablation.margin)
    return Bullets(
        [
            f"worth tuning: other values change the result by more than {margin}, the smallest difference that counts"
            " here, and chance does not explain it: one is better, or those on both sides of the base are worse.",
            "harmful above or below a value: all tried values beyond it are worse than the base; the others are not.",
            f"safe to leave: whatever the chance, no tried value differs from the base by more than {margin}.",
            "not resolved: the effect is too small for so few seeds, which is not the same as no effect.",
            *_of_switches(wording, margin),
        ]
    )


def _of_switches(wording: Wording, margin: str) -> list[str]:
    if not any(one.parameter in wording.ablation.design.recipe for one in wording.ablation.parameters):
        return []
    return [
        "worth keeping, better left out, makes no difference: without this part of the recipe, the result is worse,"
        f" better, or the same within {margin}."
    ]


def _pairs(wording: Wording) -> list[Block]:
    effects = wording.ablation.interactions
    if not effects:
        return []
    rows = [
        (f"{effect.first}, {effect.second}", str(effect.verdict), wording.pair(effect)) for effect in effects
    ]
    return [Table(("pair", "verdict", "finding"), rows)]


def _value_table(wording: Wording) -> Table:
    ablation = wording.ablation
    rows = []
    for place, point in enumerate(ablation.design.points):
        values = ablation.measurements.values[place]
        known = values[np.isfinite(values)] * ablation.measurements.sign
        contrast = None if place == 0 else ablation.contrasts[place, 0]
        rows.append(
            (
                " ".join(f"{name}={formatting.parameter(point.params.get(name))}" for name in point.changed)
                or "base",
                str(len(known)),
                formatting.metric(float(known.mean())) if len(known) else "-",
                "-" if contrast is None else wording.effect(contrast),
                SHOWN.get(ablation.kind(place), str(ablation.kind(place))),
            )
        )
    headers = ("changed", "runs", ablation.measurements.metric, f"effect ({wording.unit})", "class")
    caption = (
        "Effects are paired differences to the base, above zero better, with simultaneous 95 % intervals."
    )
    return Table(headers, rows, frozenset(headers[1:4]), caption)


def _method(wording: Wording) -> list[Block]:
    ablation = wording.ablation
    design, noise = ablation.design, ablation.noise
    counted = formatting.counted
    items = [
        f"{counted(len(design.points), 'configuration')} from {counted(len(design.seeds), 'seed')} each, judged on"
        " validation examples; the test set stays closed. The seed decides the initial weights, the order of the"
        " examples, dropout and augmentation.",
        "An effect is the mean, over the seeds, of the difference between two runs of the same seed.",
    ]
    if noise is not None:
        factor = critical_value(tuple(ablation.pairs), noise.freedom)
        items += [
            f"The standard deviation of one run around the mean of its configuration is {_noise(wording)}, pooled over"
            f" configurations ({counted(noise.freedom, 'degree')} of freedom): it is assumed to be the same for all of"
            " them. Left out are those far worse than the base, and those whose runs scatter significantly more"
            f" ({counted(len(noise.unstable), 'unstable one')}).",
            *_calm(wording),
            f"All {counted(len(ablation.pairs), 'interval')} together contain the true effects with 95 % probability:"
            f" each is the effect ± {factor:.2f} standard errors (the largest of all t statistics; for comparisons with"
            " one base this is Dunnett's test).",
            f"Differences below {wording.size(ablation.margin)} do not matter: "
            + (
                "as --margin sets it."
                if design.settings.margin is not None
                else "the larger one of 0.2 points and the standard deviation of a run."
                if wording.is_share
                else "the standard deviation of a run."
            ),
        ]
    items.append(
        "Each parameter varies while the others have the values of the base: around another configuration, with more"
        " epochs or more data, effects may differ. Only the tried values were measured, not those between them."
    )
    return [Bullets(items), Table(("parameter", "range"), _ranges(ablation))]


def _calm(wording: Wording) -> list[str]:
    """Return a sentence on the parameters that have a noise of their own."""
    noise, points = wording.ablation.noise, wording.ablation.design.points
    assert noise is not None
    names = list(dict.fromkeys(points[place].changed[0] for place in noise.calm))
    if not names:
        return []
    return [
        f"Runs in which {formatting.joined(names, 'or')} alone is changed differ significantly less from the base's run"
        " of the same seed: their intervals follow from these differences."
    ]


def _ranges(ablation: Ablation) -> list[tuple[str, str]]:
    recipe = ablation.design.recipe
    return [
        (
            one.parameter,
            f"on ({recipe[one.parameter]}) or off"
            if one.parameter in recipe
            else describe_parameter(ablation.space, one.parameter),
        )
        for one in ablation.parameters
    ]


def summary_lines(wording: Wording) -> list[str]:
    """Return the results for a terminal."""
    ablation = wording.ablation
    lines = [*warnings_of(ablation)]
    if ablation.noise is not None:
        lines.append(
            f"differences below {wording.size(ablation.margin)} do not matter; runs differ by ± {_noise(wording)} from"
            " seed to seed"
        )
    effects = ranked(ablation)
    names = [
        *(one.parameter for one in effects),
        *(f"{one.first} and {one.second}" for one in ablation.interactions),
    ]
    width = max(map(len, names), default=0)
    lines += [
        f"{one.parameter.ljust(width)}  {wording.verdict(one)}: {wording.finding(one)}" for one in effects
    ]
    lines += [
        f"{f'{one.first} and {one.second}'.ljust(width)}  {one.verdict}: {wording.pair(one)}"
        for one in ablation.interactions
    ]
    return lines

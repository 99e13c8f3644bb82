"""The results of an experiment as JSON and CSV."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpo import formatting
from hpo.analysis.ablation.contrasts import Contrast, critical_value
from hpo.document.files import csv_file
from hpo.report.ablation.text import Wording, warnings_of

_COLUMNS = ("n", "mean", "standard_deviation", "failed", "effect", "low", "high", "class")


def ablation_json(wording: Wording) -> dict[str, Any]:
    """Return the results for programs; effects are in units of the metric, above zero better."""
    ablation = wording.ablation
    design, noise = ablation.design, ablation.noise
    return {
        "study": design.study,
        "trial": design.trial,
        "base": design.base,
        "metric": ablation.measurements.metric,
        "seeds": list(design.seeds),
        "runs": design.size,
        "finished": ablation.measurements.finished,
        "warnings": list(warnings_of(ablation)),
        "margin": ablation.margin,
        "noise": None
        if noise is None
        else {"standard_deviation": noise.deviation, "degrees_of_freedom": noise.freedom},
        "critical_value": None if noise is None else critical_value(tuple(ablation.pairs), noise.freedom),
        "comparisons": len(ablation.pairs),
        "interval_method": "simultaneous 95 %, largest t statistic of all comparisons, pooled noise",
        "parameters": [
            {
                "parameter": one.parameter,
                "verdict": one.verdict,
                "finding": wording.finding(one),
                "harmful_below": one.below,
                "harmful_above": one.above,
                "seeds_needed": one.seeds_needed,
                "values": [
                    {
                        "value": value.value,
                        "class": value.kind,
                        "failed": value.failed,
                        **_contrast(value.contrast),
                    }
                    for value in one.values
                ],
            }
            for one in ablation.parameters
        ],
        "pairs": [
            {
                "parameters": [one.first, one.second],
                "verdict": one.verdict,
                "finding": wording.pair(one),
                "values": [
                    {
                        "values": [cell.first, cell.second],
                        "class": cell.kind,
                        **_contrast(cell.against_base),
                        "within_first": _contrast(cell.within) or None,
                    }
                    for cell in one.cells
                ],
            }
            for one in ablation.interactions
        ],
    }


def _contrast(contrast: Contrast | None) -> dict[str, Any]:
    if contrast is None:
        return {}
    return {"n": contrast.n, "effect": contrast.effect, "interval95": contrast.interval}


def ablation_csv(wording: Wording) -> bytes:
    """Return a row for each configuration."""
    ablation = wording.ablation
    names = list(dict.fromkeys(name for point in ablation.design.points for name in point.params))
    headings = formatting.apart(names, ("changed", *_COLUMNS), "param_")
    rows = []
    for place, point in enumerate(ablation.design.points):
        values = ablation.measurements.values[place]
        known = values[np.isfinite(values)] * ablation.measurements.sign
        contrast = None if place == 0 else ablation.contrasts[place, 0]
        low, high = (None, None) if contrast is None or contrast.interval is None else contrast.interval
        rows.append(
            (
                " ".join(point.changed),
                *(point.params.get(name) for name in names),
                len(known),
                float(known.mean()) if len(known) else None,
                float(known.std(ddof=1)) if len(known) > 1 else None,
                int(ablation.measurements.failed[place].sum()),
                None if contrast is None or not contrast.n else contrast.effect,
                low,
                high,
                str(ablation.kind(place)),
            )
        )
    headers = (
        "changed",
        *headings.values(),
        "n",
        "mean",
        "standard_deviation",
        "failed",
        "effect",
        "low",
        "high",
        "class",
    )
    return csv_file(headers, rows)

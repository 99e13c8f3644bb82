"""The objective that imports Keras, with an environment variable set before: so each trial imports Keras itself."""

from __future__ import annotations

import os

import optuna

from bench.peers.own_code import learned


def unlearned(trial: optuna.Trial) -> float:
    os.environ["BENCH_UNLEARNED"] = "1"
    return learned(trial)

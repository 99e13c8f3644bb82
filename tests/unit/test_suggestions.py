"""The nearest names."""

from __future__ import annotations

from hpo.suggestions import did_you_mean, nearest

KNOWN = ("digits-cnn", "mnist-cnn", "mnist-resnet", "cifar-resnet")


def test_nearest() -> None:
    assert nearest("mnist", KNOWN)[:2] == ["mnist-cnn", "mnist-resnet"]
    assert nearest("DIGITS_CNN", KNOWN)[0] == "digits-cnn"
    assert nearest("zzz", KNOWN) == []
    assert nearest("", KNOWN) == []


def test_did_you_mean() -> None:
    assert did_you_mean("digit-cnn", KNOWN).startswith("; did you mean digits-cnn")
    assert did_you_mean("zzz", KNOWN) == ""

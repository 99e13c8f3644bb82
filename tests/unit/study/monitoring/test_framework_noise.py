"""Lines of TensorFlow's start, as version 2.21 and older ones print them."""

from __future__ import annotations

import pytest

from hpo.study.monitoring.framework_noise import without_noise

START = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795860873.087600    3688 port.cc:153] oneDNN custom operations are on. You may see slightly different …
I0000 00:00:1795860873.088022    3688 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
2025-09-17 14:44:05.157831: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers on your machine, GPU will not be used.
2025-09-17 14:44:05.2: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is optimized to use available CPU instructions in performance-critical operations.
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.
2025-09-17 14:44:05.176998: E external/local_xla/xla/stream_executor/cuda/cuda_fft.cc:467] Unable to register cuFFT factory: Attempting to register factory for plugin cuFFT when one has already been registered
"""  # noqa: E501 - as they are
CUDA = """E0000 00:00:1795860972.772379    5926 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
"""  # noqa: E501
OWN = "epoch 1/2: loss=0.5\n"


@pytest.mark.parametrize("device", ["cores 0-1", "2 cores", "gpu 0 (1/2, 69.2 GiB), core 0"])
@pytest.mark.parametrize("printed", [OWN, "", "\nI0000 is a model\n", "oneDNN custom operations are on.\n"])
def test_output_of_a_trial_stays_without_lines_of_the_start(device: str, printed: str) -> None:
    assert without_noise(START + printed + START.rstrip("\n"), device) == printed


@pytest.mark.parametrize(
    ("device", "kept"), [("cores 0-1", ""), ("1 core", ""), ("gpu 0 (80.0 GiB), core 0", CUDA)]
)
def test_missing_gpu_is_an_error_only_of_a_trial_that_has_one(device: str, kept: str) -> None:
    assert without_noise(CUDA + OWN, device) == kept + OWN


@pytest.mark.parametrize(
    "line",
    [
        "E0000 00:00:1.0 1 cuda_dnn.cc:85] Could not create cudnn handle: CUDNN_STATUS_ALLOC_FAILED",
        "F0000 00:00:1.0 1 cpu_feature_guard.cc:16] The TensorFlow library was compiled to use AVX instructions",
        "W0000 00:00:1.0 1 cpu_allocator_impl.cc:83] Allocation of 8 exceeds 10% of free system memory.",
        "2026-11-28 10:14:02: E xla/stream_executor/cuda/cuda_driver.cc:1] failed to allocate 2.00GiB: out of memory",
    ],
)
def test_errors_that_matter_stay(line: str) -> None:
    assert without_noise(START + line + "\n" + OWN, "cores 0-1") == line + "\n" + OWN

"""Errors that mean, may mean or only seem to mean that memory ran out."""

from __future__ import annotations

import errno

import pytest

from objectives.backend import is_disk_full, is_out_of_memory, may_be_out_of_memory


class ResourceExhaustedError(Exception):
    """Stands in for TensorFlow's."""


class XlaRuntimeError(RuntimeError):
    """Stands in for JAX's."""


class InternalError(Exception):
    """Stands in for TensorFlow's."""


class RpcError(Exception):
    """Stands in for gRPC's."""


class UnprintableError(Exception):
    """Its message cannot be made."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GiB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("cudaErrorMemoryAllocation: out of resources"),
        RuntimeError("rocblas error: rocblas_status_memory_error"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ExceptionGroup("two threads", [ValueError("first"), MemoryError()]),
        InternalError("Failed copying input tensor from CPU:0 to GPU:0 in order to run _EagerConst"),
        InternalError("Dst tensor is not initialized."),
        InternalError("Failed to allocate 2147483648 bytes for new constant"),
        InternalError("failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED"),
        InternalError("CUDNN_STATUS_ALLOC_FAILED in tensorflow/stream_executor/cuda/cuda_dnn.cc"),
        InternalError("CUDA runtime implicit initialization on GPU:0 failed. Status: out of memory"),
        InternalError("cudaErrorOutOfMemory"),
        InternalError("Resource exhausted: Failed to allocate request for 1.0GiB on device ordinal 0"),
        XlaRuntimeError(
            "INTERNAL: Attempting to allocate 2.00G. That was not possible. There are 1.00G free."
        ),
        XlaRuntimeError("Ran out of memory in memory space hbm. Used 17G of 16G hbm."),
        XlaRuntimeError("INTERNAL: Unable to allocate scratch space"),
        XlaRuntimeError("INTERNAL: Failed to capture gpu graph: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        XlaRuntimeError(
            "UNKNOWN: Attempting to reserve 5.31G at the bottom of memory. That was not possible."
        ),
        XlaRuntimeError("INTERNAL: failed to alloc 268435456 bytes on host"),
        InternalError("No algorithm worked!  Allocating 4295 bytes exceeds the memory limit of 4096 bytes."),
        InternalError("Could not allocate pinned host memory of size: 2304"),
        RuntimeError("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
        RuntimeError("CL_MEM_OBJECT_ALLOCATION_FAILURE"),
        RuntimeError("NCCL error: unhandled cuda error. Last error: Cuda failure 'out of memory'"),
        RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPU)"),
        RuntimeError("Caught OutOfMemoryError in DataLoader worker process 0.\nCUDA out of memory."),
        OSError("Unable to create file (errno = 12, error message = 'Cannot allocate memory')"),
    ],
)
def test_out_of_memory_errors_and_their_consequences_are_recognized(error):
    assert is_out_of_memory(error)
    outer = ValueError("while training")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


MISTAKES = (
    None,
    ValueError("out of memory is in a user's message"),
    RuntimeError("shapes differ"),
    RuntimeError("a room when allocating desks"),
    RuntimeError("cannot allocate 3 heads to 64 units"),
    RuntimeError("could not allocate classes to folds"),
    RuntimeError("not enough memory cells in this layer"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("out of resource: shared memory, Required: 147456, Hardware limit: 101376"),
    RuntimeError("unable to open shared memory object </torch_1>: insufficient shared memory (shm)"),
    # TensorFlow makes these an exhausted resource.
    ResourceExhaustedError("results/events.out; No space left on device"),
    ResourceExhaustedError("data/train.tfrecord; Too many open files"),
    RpcError("StatusCode.RESOURCE_EXHAUSTED: Received message larger than max (5 vs. 4)"),
    OSError(errno.ENOENT, "out of memory"),
    InternalError("CUDNN_STATUS_BAD_PARAM"),
    UnprintableError(),
    ExceptionGroup("two threads", [ValueError("first")]),
)


@pytest.mark.parametrize("error", MISTAKES)
def test_other_errors_are_not_out_of_memory(error):
    assert not is_out_of_memory(error)


def test_cyclic_error_causes_are_followed_once():
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)


LIBRARIES = (
    InternalError("Failed to get convolution algorithm. This is probably because cuDNN failed to initialize"),
    InternalError("could not create cudnn handle: CUDNN_STATUS_INTERNAL_ERROR"),
    XlaRuntimeError("FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above"),
    XlaRuntimeError(
        "INTERNAL: jaxlib/gpu/solver_kernels.cc: gpusolverDnCreate(&handle): cuSolver internal error"
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("NCCL error in: NCCLUtils.cpp, ncclUnhandledCudaError: Call to CUDA function failed"),
)


@pytest.mark.parametrize("error", LIBRARIES)
def test_errors_of_libraries_may_mean_that_memory_ran_out(error):
    assert not is_out_of_memory(error)
    outer = ValueError("while training")
    outer.__context__ = error
    assert may_be_out_of_memory(outer)


@pytest.mark.parametrize("error", [*MISTAKES, ValueError("CUDNN_STATUS_NOT_INITIALIZED")])
def test_other_errors_do_not_hint_at_memory(error):
    assert not may_be_out_of_memory(error)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (ResourceExhaustedError("results/events.out; No space left on device"), True),
        (OSError("Can't write data (errno = 28, error message = 'No space left on device')"), True),
        (ResourceExhaustedError("x; Disk quota exceeded"), True),
        (ResourceExhaustedError("OOM when allocating tensor"), False),
        (ValueError("No space left on device"), False),
    ],
)
def test_full_disks_that_libraries_report_are_recognized(error, full):
    assert is_disk_full(error) == full

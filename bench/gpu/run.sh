#!/usr/bin/env bash
# Measures all that needs a GPU, in under 8 minutes, on a bare machine: Python 3.12, JAX with CUDA, NumPy and SciPy; no
# network. `bench/gpu/pack.sh` has made the folder of packages.
#
#     bench/gpu/run.sh [--packages .gpu-packages] [--output .bench/gpu] [--rehearse] [--seconds 450] [--parts tests,rates]
#
# Writes gpu.json and gpu.md (gpu-quick.* with --rehearse, which does all in small on the processor) into the output
# folder after each measurement, so that a run that is cut off keeps what it has. With HPO_DATA_DIR, CIFAR-10 and MNIST are
# read from cifar10.npz and mnist.npz there; images are made up for a missing one, and then no accuracy is reported.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
packages=$root/.gpu-packages
rest=()
while [ $# -gt 0 ]; do
    case $1 in
        --packages) packages=$(cd "$2" && pwd); shift 2 ;;
        *) rest+=("$1"); shift ;;
    esac
done
python=${PYTHON:-python3}
# Next to the packages, which git ignores, because a script that removes it at its end could not hand on signals.
venv=$packages/venv
"$python" -m venv --clear --without-pip "$venv"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The machine's own packages, also where its Python is a virtual environment itself, and this repository.
{ "$python" -c 'import sys; print("\n".join(path for path in sys.path if path.endswith("-packages")))'; echo "$root"; } \
    > "$site/machine.pth"
"$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-index --no-deps \
    --no-compile --find-links "$packages" "$packages"/*.whl
export KERAS_BACKEND=jax
cd "$root"
exec "$venv/bin/python" -m bench.gpu "${rest[@]+"${rest[@]}"}"

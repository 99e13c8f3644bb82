"""Keras' own `fit` in a run: exact when resumed, whatever the data, and ended by pruning or by a callback."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpo.errors import ObjectiveBrokenError
from hpo.trainer.checkpointing import checkpoint_file
from hpo.trainer.messages import EpochRecord
from objectives import backend
from objectives.errors import DivergedError, MetricMissingError, MetricUnknownError
from objectives.local_run import Checkpoint, LocalRun

# Keras warns of its own default where data shuffle themselves.
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")

EPOCHS = 4
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")


class Batches(keras.utils.PyDataset):
    """Batches in an order that changes after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._order = np.arange(24)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        chosen = self._order[index * 8 : index * 8 + 8]
        return X[chosen], Y[chosen]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self._order)


class Slowdown(keras.callbacks.Callback):
    """A callback of the user's own, with state of several kinds, which changes the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, list[Any]] = {}
        self.last = keras.ops.convert_to_tensor(0.0)
        self.file = io.StringIO()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen[epoch] = [(logs["loss"], np.float32(logs.get("val_loss", 1.0)))]
        self.last = self.last + 1.0
        self.file.write("an epoch")
        self.model.optimizer.learning_rate = 0.05 / (len(self.seen) + float(self.last))


def dense(*, eager: bool = False, **options: Any) -> keras.Model:
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(4, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, "sigmoid"),
    ]
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.Adam(0.05, **options)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], run_eagerly=eager)
    return model


def light(*, built: bool = True) -> keras.Model:
    """Return a model for tests of the order of data, whose weights follow from it."""
    layers = [keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential([*([keras.Input((4,))] if built else []), *layers])
    model.compile(keras.optimizers.SGD(0.05, 0.9), "binary_crossentropy", run_eagerly=True)
    return model


def two_inputs() -> keras.Model:
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    merged = keras.layers.Dense(3)(keras.layers.Concatenate()([left, right]))
    outputs = {"sign": keras.layers.Dense(1, "sigmoid")(merged), "sum": keras.layers.Dense(1)(merged)}
    model = keras.Model([left, right], outputs)
    model.compile("adam", {"sign": "binary_crossentropy", "sum": "mse"}, run_eagerly=True)
    return model


def generated() -> Iterator[Any]:
    rng = np.random.default_rng(1)
    while True:
        chosen = rng.integers(0, 24, 8)
        yield X[chosen], Y[chosen]


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(24).batch(8)


def fit(run: LocalRun, model: keras.Model, *given: Any, **options: Any) -> keras.callbacks.History:
    return run.fit(model, *given, **{"validation_data": (X, Y), **options})


def plain(run: LocalRun, callbacks: list[Any]) -> keras.callbacks.History:
    model = dense(eager=True)
    return model.fit(
        X, Y, epochs=run.total_epochs, validation_data=(X, Y), callbacks=run.callbacks(callbacks), verbose=0
    )


Fit = Callable[[LocalRun, list[Any]], keras.callbacks.History]
FITS: dict[str, Fit] = {
    "arrays": lambda run, callbacks: run.fit(
        dense(use_ema=True),
        X,
        Y,
        batch_size=8,
        validation_split=0.25,
        class_weight={0: 1.0, 1: 2.0},
        callbacks=callbacks,
    ),
    "two inputs": lambda run, callbacks: run.fit(
        two_inputs(),
        [X[:, :2], X[:, 2:]],
        {"sign": Y, "sum": X.sum(axis=1)},
        validation_split=0.25,
        callbacks=callbacks,
    ),
    "tf.data and model without input": lambda run, callbacks: run.fit(
        light(built=False), dataset(), callbacks=callbacks
    ),
    "endless tf.data": lambda run, callbacks: run.fit(
        light(), dataset().repeat(), steps_per_epoch=2, callbacks=callbacks
    ),
    "PyDataset": lambda run, callbacks: run.fit(light(), Batches(), callbacks=callbacks),
    "generator": lambda run, callbacks: run.fit(light(), generated(), steps_per_epoch=2, callbacks=callbacks),
    "callbacks of a fit of one's own": plain,
}
VALIDATED = ("arrays", "two inputs", "callbacks of a fit of one's own")


def callbacks(monitor: str) -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping(monitor, patience=EPOCHS, min_delta=0.01, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(monitor, patience=1, cooldown=1, min_delta=0.2, factor=0.5),
        Slowdown(),
    ]


def ended(kind: str, **options: Any) -> tuple[LocalRun, list[Any], Any]:
    """Return a run, and all state at its end."""
    keras.utils.set_random_seed(5)
    metric = "val_loss" if kind in VALIDATED else "loss"
    run = LocalRun(EPOCHS, seed=5, metric=metric, **options)
    used = callbacks(metric)
    history = FITS[kind](run, used)
    stop, reduce, own = used
    model = history.model
    variables = [keras.ops.convert_to_numpy(one) for one in [*model.variables, *model.optimizer.variables]]
    state = (
        stop.wait,
        stop.best,
        stop.best_epoch,
        stop.min_delta,
        reduce.wait,
        reduce.best,
        reduce.cooldown_counter,
    )
    return run, variables, (state, own.seen, float(own.last), history.history, history.epoch)


def on_disk(checkpoint: Checkpoint | None, folder: Path) -> Checkpoint:
    assert checkpoint is not None
    records = [EpochRecord(epoch + 1, {}, 0.0) for epoch in range(checkpoint.epoch)]
    with (folder / "epoch.npz").open("wb") as file:
        checkpoint_file.write(file, records, checkpoint.state)
    read = checkpoint_file.read(folder / "epoch.npz")
    assert read is not None
    return Checkpoint(read.epoch, read.state)


@pytest.mark.parametrize("kind", FITS)
def test_resumed_fit_ends_as_an_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    whole, variables, state = ended(kind)
    first, _, _ = ended(kind, stop_after=2)
    assert (len(first.history), first.ended_early) == (2, True)
    resumed, resumed_variables, resumed_state = ended(kind, resume=on_disk(first.checkpoint, tmp_path))
    if kind == "endless tf.data" and backend.name() != "tensorflow":
        assert any(message.startswith("the order of the data is not that of") for message in resumed.messages)
        return
    assert [*first.history, *resumed.history] == whole.history
    assert resumed_state == state
    for found, expected in zip(resumed_variables, variables, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "not kept by checkpoints, so as in a new run: Slowdown.file" in resumed.messages
    assert not [line for line in resumed.messages if "order of the data" in line]


@pytest.fixture(scope="module")
def linear() -> Callable[[], keras.Model]:
    """Return a function that resets one compiled model."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    return lambda: model


def test_early_stopping_completes_the_run_with_its_best_weights(linear: Callable[[], keras.Model]) -> None:
    def train(run: LocalRun) -> keras.callbacks.EarlyStopping:
        # A rate of zero: no epoch is better than the first.
        stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
        run.fit(linear(), X, Y, callbacks=[stop])
        run.check_end()
        return stop

    run = LocalRun(9, metric="loss")
    stop = train(run)
    assert (len(run.history), run.ended_early, stop.stopped_epoch) == (3, False, 2)
    # Lost after its last epoch, before its end was known.
    again = LocalRun(9, metric="loss", resume=run.checkpoint)
    stop = train(again)
    assert (again.history, stop.stopped_epoch, stop.best_epoch) == ([], 2, 0)
    assert len(stop.best_weights) == 2


def test_patience_counts_over_an_interruption(linear: Callable[[], keras.Model]) -> None:
    def train(run: LocalRun) -> None:
        run.fit(linear(), X, Y, callbacks=keras.callbacks.EarlyStopping("loss", patience=3))

    first = LocalRun(9, metric="loss", stop_after=3)
    train(first)
    second = LocalRun(9, metric="loss", resume=first.checkpoint)
    train(second)
    assert len(first.history) + len(second.history) == 4


def test_missing_metric_is_refused_after_the_first_epoch(linear: Callable[[], keras.Model]) -> None:
    run = LocalRun(3, metric="val_acuracy")
    with pytest.raises(
        MetricUnknownError, match=r"given loss, val_loss, but not 'val_acuracy'.*set metric to one"
    ):
        fit(run, linear(), X, Y)
    assert run.history == []


def test_loss_that_is_not_finite_ends_the_run(linear: Callable[[], keras.Model]) -> None:
    with pytest.raises(DivergedError, match="loss is nan after epoch 1"):
        LocalRun(3, metric="loss").fit(linear(), X * np.nan, Y)
    linear().set_weights([np.zeros((4, 1)), np.zeros(1)])


def test_metric_of_several_numbers_is_left_out() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "sigmoid")])
    model.compile("sgd", "mse", metrics=[keras.metrics.F1Score(name="f1")])
    run = LocalRun(1, metric="loss")
    history = run.fit(model, X, np.stack([Y, 1 - Y], axis=1))
    assert run.history[0].keys() == {"loss"}
    assert "the metric 'f1'" in run.messages[0]
    assert "f1" in history.history


def phases(run: LocalRun) -> list[list[float]]:
    model = light()
    first = run.fit(model, X, Y, batch_size=8, epochs=2)
    model.layers[0].trainable = False
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", run_eagerly=True)
    second = run.fit(model, X, Y, batch_size=8, epochs=4, initial_epoch=2)
    return [first.history["loss"], second.history["loss"]]


@pytest.fixture(scope="module")
def whole_phases() -> list[list[float]]:
    keras.utils.set_random_seed(5)
    return phases(LocalRun(4, metric="loss"))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_fine_tuning_in_phases_resumes(stop_after: int, whole_phases: list[list[float]]) -> None:
    assert list(map(len, whole_phases)) == [2, 2]
    keras.utils.set_random_seed(5)
    first = LocalRun(4, metric="loss", stop_after=stop_after)
    # A run that has ended trains nothing in its later phases.
    with pytest.raises(KeyError) if stop_after < 3 else nullcontext():
        phases(first)
    keras.utils.set_random_seed(5)
    assert phases(LocalRun(4, metric="loss", resume=first.checkpoint)) == whole_phases


def test_second_model_of_a_run_begins_again_when_resumed(linear: Callable[[], keras.Model]) -> None:
    def train(run: LocalRun) -> keras.callbacks.History:
        run.fit(linear(), X, Y, epochs=1)
        keras.utils.set_random_seed(5)
        return run.fit(light(), X, Y, epochs=2)

    whole = LocalRun(3, metric="loss")
    train(whole)
    first = LocalRun(3, metric="loss", stop_after=2)
    train(first)
    assert first.checkpoint is not None
    assert first.checkpoint.epoch == 1
    assert [line for line in first.messages if "another model of this run" in line]
    second = LocalRun(3, metric="loss", resume=first.checkpoint)
    train(second)
    assert [*first.history[:1], *second.history] == whole.history


@pytest.mark.parametrize("epochs", [None, 3])
def test_second_model_without_an_epoch_left_is_refused(
    linear: Callable[[], keras.Model], epochs: int | None
) -> None:
    options = {} if epochs is None else {"epochs": epochs}
    run = LocalRun(3, metric="loss")
    model = linear()
    run.fit(model, X, Y, **options)
    assert run.fit(model, X, Y, **options).epoch == []
    with pytest.raises(
        ObjectiveBrokenError, match=r"no epoch left, because earlier calls have trained all 3: give"
    ):
        run.fit(dense(), X, Y, **options)
    ended = LocalRun(3, metric="loss", stop_after=1)
    ended.fit(linear(), X, Y)
    assert ended.fit(dense(), X, Y).epoch == []


def test_fit_that_gets_fewer_epochs_than_it_asks_for_is_logged(linear: Callable[[], keras.Model]) -> None:
    run = LocalRun(3, metric="loss")
    run.fit(linear(), X, Y, epochs=2)
    assert run.fit(linear(), X, Y, epochs=2).epoch == [0]
    assert [line for line in run.messages if line.startswith("fit ends")] == [
        "fit ends after 1 of its 2 epochs, because all calls together train at most 3"
    ]


class Adversaries(keras.Model):
    """A model with a training step and an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        self.second = keras.optimizers.Adam(0.1)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean((self.inner(x)[:, 0] - y) ** 2)
        variables = self.inner.trainable_variables
        self.second.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


@pytest.mark.skipif(backend.name() != "tensorflow", reason="the training step is one of TensorFlow")
@pytest.mark.parametrize("built", [True, False])
def test_optimizer_of_a_models_own_is_kept_if_it_is_built(built: bool) -> None:
    def train(run: LocalRun) -> None:
        keras.utils.set_random_seed(5)
        model = Adversaries()
        if built:
            model.second.build(model.inner.trainable_variables)
        model.compile(run_eagerly=True)
        run.fit(model, X, Y)

    first, whole = LocalRun(3, metric="loss", stop_after=2), LocalRun(3, metric="loss")
    train(first)
    assert (first.checkpoint is not None) == built
    assert bool([line for line in first.messages if "build them before fit" in line]) != built
    train(whole)
    if built:
        rest = LocalRun(3, metric="loss", resume=first.checkpoint)
        train(rest)
        assert [*first.history, *rest.history] == whole.history


@pytest.mark.parametrize(
    ("state", "callbacks", "message"),
    [
        ({"mine": 1}, [], r"not one of run.fit\(\): do not call run.save\(\)"),
        (
            None,
            [keras.callbacks.TerminateOnNaN()],
            "made with the callbacks History, not TerminateOnNaN, History",
        ),
        (None, [keras.callbacks.BackupAndRestore("backup")], "remove it, since a run resumes by itself"),
    ],
)
def test_checkpoint_of_another_kind_is_refused(
    linear: Callable[[], keras.Model], state: Any, callbacks: list[Any], message: str
) -> None:
    first = LocalRun(3, metric="loss", stop_after=1)
    first.fit(linear(), X, Y)
    assert first.checkpoint is not None
    run = LocalRun(3, metric="loss", resume=Checkpoint(1, state or first.checkpoint.state))
    with pytest.raises(ObjectiveBrokenError, match=message):
        run.fit(linear(), X, Y, callbacks=callbacks)


def test_arguments_by_place_are_those_of_keras(linear: Callable[[], keras.Model]) -> None:
    run = LocalRun(9, metric="loss", final=True)
    model = linear()
    assert run.fit(model, X, Y, 8, 2).epoch == [0, 1]
    assert run.ticks[-1] == (3, 3, 24)
    assert run.evaluate(model, X, Y, 8).keys() == {"test_loss"}
    with pytest.raises(TypeError, match=r"fit\(\) got multiple values for argument 'batch_size'"):
        run.fit(model, X, Y, 8, batch_size=8)
    with pytest.raises(TypeError, match=r"evaluate\(\) got too many"):
        run.evaluate(model, X, Y, *range(20))


def test_test_set_is_evaluated_in_a_complete_final_run_only(
    linear: Callable[[], keras.Model], tmp_path: Path
) -> None:
    def train(run: LocalRun, model: keras.Model) -> dict[str, Any]:
        run.fit(model, X, Y)
        return run.evaluate(model, X, Y)

    assert train(LocalRun(2, metric="loss"), linear()) == {}
    assert train(LocalRun(2, final=True, stop_after=1), linear()) == {}
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
    run = LocalRun(2, final=True, output=tmp_path)
    results = train(run, model)
    assert results.keys() == {"test_loss", "test_mae"}
    assert run.results == results | {"parameters": 5}
    saved = keras.models.load_model(tmp_path / "model.keras")
    assert saved.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(
        {name.removeprefix("test_"): value for name, value in results.items()}
    )


def test_run_without_keras_in_its_loop_still_has_its_rules(linear: Callable[[], keras.Model]) -> None:
    run = LocalRun(2, metric="loss")
    run.fit(linear(), X, Y)
    assert [*run.epochs()] == []
    with pytest.raises(MetricMissingError, match="called again"):
        run.report(loss=1.0)


def test_figures_of_the_first_model_are_measured_before_it_trains(linear: Callable[[], keras.Model]) -> None:
    run = LocalRun(2, metric="loss")
    run.figures = ("parameters", "latency_ms", "loss")
    run.fit(two_inputs(), [X[:, :2], X[:, 2:]], {"sign": Y, "sum": X.sum(axis=1)}, epochs=1)
    assert run.measured.keys() == {"parameters", "latency_ms"}
    assert run.measured["parameters"] == 23
    run.fit(linear(), X, Y, epochs=1)
    assert run.measured["parameters"] == 23

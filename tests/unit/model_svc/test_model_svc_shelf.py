"""Versions that come, change and go under a shelf, with models of the test's own making."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from model_svc.ports import Embeddings, InferCall, Inferred
from model_svc.repository.catalogue import Catalogue
from model_svc.repository.folder import model_folders
from model_svc.repository.load_threads import LoadThreads
from model_svc.repository.parameters import Parameters
from model_svc.repository.repository import Repository
from model_svc.repository.shelf import Shelf, State
from model_svc.repository.sources import Found, Loaded, TextUse
from model_svc.running.statistics import Statistics
from model_svc.sessions.errors import ModelLoadError
from model_svc.tensors import TensorSpec
from stepwire.api.inference import model_config_pb2 as pb
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually


class Model:
    """Counts what is asked of it."""

    platform = "test"
    device = "cpu"
    fallback = ""
    max_batch_rows = 0

    def __init__(self, fault: Exception | None = None) -> None:
        self.inputs = [TensorSpec("x", "FP32", ("batch",))]
        self.input_sets = [frozenset({"x"})]
        self.outputs = [TensorSpec("y", "FP32", ("batch",))]
        self.statistics = Statistics()
        self.fault = fault
        self.calls = 0
        self.hangs = False
        self.interrupted = False
        self.closes_when_interrupted = False
        self.stopped = asyncio.Event()
        self.closed = False

    async def infer(self, call: InferCall) -> Inferred:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        self.statistics.batch_ran(1, 1.0)
        if self.fault:
            raise self.fault
        return Inferred([call.inputs["x"]])

    def interrupt(self) -> None:
        self.interrupted = True
        self.stopped.set()

    async def close(self) -> None:
        if self.closes_when_interrupted:
            await self.stopped.wait()
        self.closed = True


class TextModel(Model):
    """Reads texts, too."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings(np.zeros((len(texts), 1), dtype=np.float32), 1, 0)


class Source:
    """Has the versions that the test gives it."""

    def __init__(self, **versions: Model) -> None:
        self.versions = {name[1:]: model for name, model in versions.items()}
        self.looking: Callable[[], object] = lambda: None
        self.loading: Callable[[], None] = lambda: None

    def look(self) -> Found:
        self.looking()
        if not self.versions:
            raise ModelLoadError("there is no version")
        marks = {version: str(id(model)) for version, model in self.versions.items()}
        return Found(pb.ModelConfig(name="m"), True, Parameters(), marks)

    def load(self, found: Found, version: str) -> Loaded:
        model = self.versions[version]
        self.loading()
        return Loaded(model, model if isinstance(model, TextModel) else None)

    def text_use(self) -> TextUse | None:
        return None


def states(shelf: Shelf) -> dict[str, State]:
    return {entry.version: entry.state for entry in shelf.entries()}


async def test_a_model_is_run_once_before_it_is_served_and_starts_at_0() -> None:
    model = Model()
    shelf = Shelf("m", Source(v1=model), LoadThreads(60))
    assert states(shelf) == {"": State.UNAVAILABLE}
    await shelf.load()
    assert states(shelf) == {"1": State.READY}
    assert model.calls == 1
    assert model.statistics.snapshot().inference_count == 0


async def test_a_model_whose_first_run_fails_is_closed_and_not_served() -> None:
    model = Model(RuntimeError("no memory"))
    shelf = Shelf("m", Source(v1=model), LoadThreads(60))
    with pytest.raises(ModelLoadError, match="its first run failed: no memory"):
        await shelf.load()
    assert model.closed
    assert states(shelf) == {"1": State.UNAVAILABLE}


async def test_a_model_may_refuse_zeros() -> None:
    refusal = StepwireError(Reason.MODEL_INPUT_INVALID, "0 is not allowed")
    shelf = Shelf("m", Source(v1=Model(refusal)), LoadThreads(60))
    await shelf.load()
    assert states(shelf) == {"1": State.READY}


async def test_a_version_is_closed_once_its_last_user_has_left() -> None:
    old, new = Model(), Model()
    source = Source(v1=old)
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.load()
    lent = shelf.served["1"]
    with lent, lent as served:
        source.versions["1"] = new
        await shelf.load()
        assert shelf.served["1"].served.model is new
        assert served.model is old
        await asyncio.sleep(0)
        assert not old.closed
    await shelf.close()
    assert old.closed
    assert new.closed


async def test_a_version_that_leaves_is_unloading_while_it_is_used() -> None:
    shelf = Shelf("m", Source(v1=Model()), LoadThreads(60))
    await shelf.load()
    with shelf.served["1"]:
        await shelf.unload()
        assert states(shelf) == {"1": State.UNLOADING}
    await shelf.close()
    assert states(shelf) == {"": State.UNAVAILABLE}


async def test_versions_are_loading_while_the_old_ones_serve() -> None:
    source = Source(v1=Model())
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.load()
    seen: list[dict[str, State]] = []
    source.versions["2"] = Model()
    source.loading = lambda: seen.append(states(shelf))
    await shelf.load()
    assert seen == [{"1": State.READY, "2": State.LOADING}]
    assert states(shelf) == {"1": State.READY, "2": State.READY}


async def test_what_is_unchanged_stays_and_what_is_gone_leaves() -> None:
    first, second = Model(), Model()
    source = Source(v1=first, v2=second)
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.load()
    del source.versions["2"]
    with shelf.served["2"]:
        await shelf.load()
        assert states(shelf) == {"1": State.READY} | {"2": State.UNLOADING}
    await shelf.close()
    assert first.calls == 1


async def test_a_failure_is_tried_again_only_when_something_changed() -> None:
    source = Source()
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.refresh()  # nobody asked for it
    with pytest.raises(ModelLoadError):
        await shelf.load()
    await shelf.refresh()
    source.versions["1"] = Model(RuntimeError("broken"))
    with pytest.raises(ModelLoadError):
        await shelf.refresh()
    await shelf.refresh()
    source.versions["1"] = Model()
    await shelf.refresh()
    assert states(shelf) == {"1": State.READY}
    assert not shelf.failed


async def test_what_is_unloaded_while_its_folder_is_looked_at_stays_so() -> None:
    source = Source(v1=Model())
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.load()
    loop = asyncio.get_running_loop()

    def looking() -> None:
        source.looking = lambda: None
        asyncio.run_coroutine_threadsafe(shelf.unload(), loop).result()

    source.looking = looking
    source.versions["1"] = Model()
    await shelf.refresh()
    assert not shelf.served
    assert not shelf.wanted
    await shelf.close()


async def test_whatever_a_source_raises_is_a_fault_of_its_model_alone() -> None:
    source = Source(v1=Model())

    def fail() -> None:
        raise ValueError("odd")

    source.looking = fail
    shelf = Shelf("m", source, LoadThreads(60))
    with pytest.raises(ModelLoadError, match="model m: odd"):
        await shelf.load()
    assert [entry.reason for entry in shelf.entries()] == ["model m: odd"]
    source.looking = lambda: None
    # A datatype that there is not.
    source.versions["1"].inputs = [TensorSpec("x", "FP7", ())]
    with pytest.raises(ModelLoadError, match="FP7"):
        await shelf.load()
    assert source.versions["1"].closed


async def test_an_older_look_at_the_folder_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue({}, tmp_path, lambda _: Source(v1=Model()), LoadThreads(60))
    repository = Repository(catalogue, default_model="m")
    listing, go_on, looks = asyncio.Event(), threading.Event(), itertools.count()
    loop = asyncio.get_running_loop()

    def slow_at_first(folder: Path) -> Iterator[Path]:
        homes = list(model_folders(folder))
        if next(looks) == 0:
            loop.call_soon_threadsafe(listing.set)
            # Until the newer look is through, if it may.
            go_on.wait(0.3)
        return iter(homes)

    monkeypatch.setattr("model_svc.repository.catalogue.model_folders", slow_at_first)
    older = asyncio.create_task(repository.refresh())
    await listing.wait()
    (tmp_path / "m").mkdir()
    newer = asyncio.create_task(repository.load("m"))
    newer.add_done_callback(lambda _: go_on.set())
    await asyncio.gather(older, newer)
    assert repository.names == ["m"]
    await repository.close()


async def test_a_folder_takes_the_place_of_what_is_built_in(tmp_path: Path) -> None:
    built_in, own = Model(), Model()
    catalogue = Catalogue(
        {"m": Source(v1=built_in)}, tmp_path, lambda _: Source(v1=own), LoadThreads(60)
    )
    repository = Repository(catalogue, default_model="m")

    async def served() -> object:
        await repository.refresh()
        with repository.use("m") as found:
            return found.model

    await repository.load("m")
    assert await served() is built_in
    (tmp_path / "m").mkdir()
    assert await served() is own
    (tmp_path / "m").rmdir()
    assert await served() is built_in
    await repository.close()


async def test_a_load_ends_even_if_its_caller_goes_away() -> None:
    shelf_source = Source(v1=Model())
    repository = Repository(
        Catalogue({"m": shelf_source}, None, lambda _: Source(), LoadThreads(60)), default_model="m"
    )
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def loading() -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    shelf_source.loading = loading
    call = asyncio.create_task(repository.load("m"))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    await repository.close()
    assert shelf_source.versions["1"].closed
    assert repository.index()[0].reason == "it was unloaded"


async def test_what_hangs_is_left_behind_and_let_go_of_when_it_ends() -> None:
    old, late, new = Model(), Model(), Model()
    source = Source(v1=old)
    threads = LoadThreads(60)
    shelf = Shelf("m", source, threads)
    await shelf.load()
    go_on = threading.Event()

    def loading() -> None:
        go_on.wait(60)

    # From now on: what does not hang may take any time.
    source.looking = lambda: setattr(threads, "timeout_seconds", 0.1)
    source.loading = loading
    source.versions["1"] = late
    with pytest.raises(ModelLoadError, match=r"loading model m took longer than 0.1 seconds"):
        await shelf.load()
    # What is served stays, and nothing more is begun that would hang as well.
    assert shelf.served["1"].served.model is old
    assert [entry.reason for entry in shelf.entries()] == [str(shelf.fault)]
    assert threads.hanging == {"m": 1}
    with pytest.raises(ModelLoadError, match="was not begun"):
        await shelf.load()
    assert await shelf.text_use() is None
    go_on.set()
    await eventually(lambda: late.closed)
    assert threads.hanging == {}
    threads.timeout_seconds, source.looking = 60, lambda: None
    source.versions["1"] = new
    await shelf.load()
    assert shelf.served["1"].served.model is new
    await shelf.close()


async def test_a_first_run_that_never_ends_is_interrupted() -> None:
    model, threads = Model(), LoadThreads(60)
    model.hangs = True
    source = Source(v1=model)
    source.loading = lambda: setattr(threads, "timeout_seconds", 0.1)
    shelf = Shelf("m", source, threads)
    with pytest.raises(ModelLoadError, match=r"its first run took longer than 0.1 seconds"):
        await shelf.load()
    assert model.interrupted
    await shelf.close()
    assert model.closed


async def test_what_is_loaded_when_everything_closes_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model_svc.repository.repository._CLOSE_SECONDS", 0.05)
    source = Source(v1=Model())
    repository = Repository(
        Catalogue({"m": source}, None, lambda _: Source(), LoadThreads(60)), default_model="m"
    )
    go_on, begun = threading.Event(), threading.Event()

    def loading() -> None:
        begun.set()
        go_on.wait(60)

    source.loading = loading
    call = asyncio.create_task(repository.load("m"))
    await eventually(begun.is_set)
    await repository.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    # It came too late, and is closed all the same.
    await eventually(lambda: source.versions["1"].closed)


async def test_the_start_does_not_wait_for_ever_for_models_that_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_svc.repository.repository._CLOSE_SECONDS", 0.05)
    go_on = threading.Event()
    sources = {name: Source(v1=Model()) for name in "abcdm"}
    for name in "abcd":
        sources[name].looking = lambda: go_on.wait(60)
    sources["m"].versions["1"] = TextModel()
    for name in sources:
        (tmp_path / name).mkdir()
    threads = LoadThreads(60)
    sources["m"].loading = lambda: setattr(threads, "timeout_seconds", 0.1)
    catalogue = Catalogue({}, tmp_path, lambda home: sources[home.name], threads)
    repository = Repository(catalogue, default_model="m")
    await repository.start()
    assert repository.names == ["m"]
    await eventually(lambda: "a" in repository.hanging)
    await repository.close()
    go_on.set()
    await eventually(lambda: not repository.hanging)


async def test_what_one_source_found_no_other_loads() -> None:
    first, second = Model(), Model()
    source, other = Source(v1=first), Source(v1=second)
    shelf = Shelf("m", source, LoadThreads(60))
    source.looking = lambda: shelf.replace_source(other)
    await shelf.load()
    assert shelf.served["1"].served.model is first
    await shelf.load()
    assert shelf.served["1"].served.model is second
    await shelf.close()


async def test_nothing_is_loaded_onto_a_shelf_that_was_removed() -> None:
    shelf = Shelf("m", Source(v1=Model()), LoadThreads(60))
    await shelf.load()
    removal = asyncio.create_task(shelf.remove())
    with pytest.raises(ModelLoadError, match="model m is gone"):
        await asyncio.gather(removal, shelf.load())
    assert not shelf.served
    await shelf.close()


async def test_runs_of_models_that_were_unloaded_before_end_when_all_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model_svc.repository.shelf._CLOSE_SECONDS", 0.05)
    model = Model()
    shelf = Shelf("m", Source(v1=model), LoadThreads(60))
    await shelf.load()
    model.closes_when_interrupted = True
    await shelf.unload()
    await shelf.close()
    assert model.closed


async def test_what_is_unloaded_is_not_loaded_any_further() -> None:
    old, new = Model(), Model()
    source = Source(v1=old)
    shelf = Shelf("m", source, LoadThreads(60))
    await shelf.load()
    go_on, begun = threading.Event(), threading.Event()

    def loading() -> None:
        begun.set()
        go_on.wait(60)

    source.loading = loading
    source.versions["1"] = new
    load = asyncio.create_task(shelf.load())
    await eventually(begun.is_set)
    await shelf.unload()
    assert not shelf.served
    with pytest.raises(ModelLoadError, match="model m was unloaded meanwhile"):
        await load
    assert [entry.reason for entry in shelf.entries()] == ["it was unloaded"]
    go_on.set()
    await eventually(lambda: new.closed)
    source.versions["1"] = Model()
    await shelf.load()
    assert states(shelf) == {"1": State.READY}
    await shelf.close()

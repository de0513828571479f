"""Brings a folder's text files into a collection, and the collection up to date with them."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stepwire.api.executor.v1.task_pb2 import Task, TaskState
from stepwire.errors import Reason, StepwireError
from stepwire.ingest.documents import (
    MAX_PASSAGES,
    PASSAGE_CHARACTERS,
    Document,
    Section,
    UnreadableError,
    document_name,
    find_files,
    read_document,
    section_id,
)
from stepwire.ingest.graphs import DIMENSION, document_graph
from stepwire.ingest.manifest import (
    Entry,
    Manifest,
    manifest_name,
    open_manifest,
    save_manifest,
)
from stepwire.sdk.board import Board
from stepwire.sdk.client import Client
from stepwire.sdk.tally import Tally
from stepwire.sdk.values import from_payload

_FILES_AT_ONCE = 16


class FolderConflictError(Exception):
    """A label stands for another folder already; the message says which."""


@dataclass(slots=True)
class IngestReport:
    """What an ingest did; files are given by name.

    Attributes:
        ingested: Files that are new or had changed, with their number of passages.
        unchanged: Files that are as they were.
        removed: Files that are gone, and whose passages were deleted.
        skipped: Files that could not be read, and why.
        failed: Files whose task failed, and why; their old passages may be mixed with new.
        seconds: How long it took.
    """

    ingested: dict[str, int] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Folder:
    """What to ingest, and where to.

    Attributes:
        path: The folder; absolute.
        label: Begins the names of its files.
        collection: The collection; made if there is none.
        max_file_bytes: Larger files are skipped.
    """

    path: Path
    label: str
    collection: str
    max_file_bytes: int


async def ingest_folder(client: Client, folder: Folder, *, board: Board) -> IngestReport:
    """Ingests new and changed files, and deletes the passages of those that are gone.

    An ingest that was broken off continues with its own tasks when it is started again.

    Args:
        client: To the gateway.
        folder: What to ingest.
        board: Is told how it goes.

    Raises:
        FolderConflictError: The label stands for another folder that still exists.
        StepwireError: A call was refused.
        ExceptionGroup: Of such errors, from calls made side by side.
    """
    started = time.monotonic()
    manifest = await _open(client, folder.collection)
    _claim_label(manifest, folder)
    ingest = _Ingest(client, folder, manifest, board)
    await ingest.run()
    manifest.revision += 1
    await save_manifest(client.vectors, folder.collection, manifest)
    ingest.report.seconds = time.monotonic() - started
    return ingest.report


async def _open(client: Client, collection: str) -> Manifest:
    if await client.vectors.find(collection) is None:
        await client.vectors.drop(manifest_name(collection))
        await client.vectors.create(collection, dimension=DIMENSION)
    return await open_manifest(client.vectors, collection)


def _claim_label(manifest: Manifest, folder: Folder) -> None:
    """Notes which folder a label stands for; one that was moved may keep its label."""
    known = manifest.folders.get(folder.label)
    if known not in (None, str(folder.path)) and Path(str(known)).is_dir():
        raise FolderConflictError(
            f"in collection {folder.collection!r} the label {folder.label!r} stands for {known}: "
            "choose another label for this folder"
        )
    manifest.folders[folder.label] = str(folder.path)


class _Ingest:
    """One ingest under way."""

    def __init__(self, client: Client, folder: Folder, manifest: Manifest, board: Board) -> None:
        self.report = IngestReport()
        self._client = client
        self._folder = folder
        self._manifest = manifest
        self._board = board
        self._tally = Tally(total=0)

    async def run(self) -> None:
        files = self._files()
        changed = await asyncio.to_thread(self._changed, files)
        self._tally.total = sum(changed.values())
        slots = asyncio.Semaphore(_FILES_AT_ONCE)

        async def ingest(name: str) -> None:
            async with slots:
                await self._ingest_file(name, files[name])

        if changed:
            self._board.begin("sections", self._tally)
            async with asyncio.TaskGroup() as group:
                for name in changed:
                    group.create_task(ingest(name))
            self._board.end()
        for name in self._gone(files):
            await self._remove(name)

    def _files(self) -> dict[str, Path]:
        path, label = self._folder.path, self._folder.label
        return {document_name(file, folder=path, label=label): file for file in find_files(path)}

    def _changed(self, files: Mapping[str, Path]) -> dict[str, int]:
        """Returns the files to ingest with their numbers of sections; notes the others."""
        changed = {}
        for name, file in files.items():
            document = self._read(name, file)
            if document is None:
                continue
            known = self._manifest.files.get(name)
            if known is not None and known.digest == document.digest:
                self.report.unchanged.append(name)
            else:
                changed[name] = len(document.sections)
        return changed

    def _read(self, name: str, file: Path) -> Document | None:
        try:
            return read_document(file, name=name, max_bytes=self._folder.max_file_bytes)
        except UnreadableError as error:
            self.report.skipped[name] = str(error)
            return None

    async def _ingest_file(self, name: str, file: Path) -> None:
        # Read again: to keep every changed file in memory could be too much.
        document = await asyncio.to_thread(self._read, name, file)
        if document is None:
            return
        passages = 0
        for number, section in enumerate(document.sections, start=1):
            task = await self._ingest_section(document, number, section)
            if task.state != TaskState.TASK_STATE_SUCCEEDED:
                why = task.failure.message or "was cancelled"
                self.report.failed[name] = f"task {task.task_id}: {why}"
                return
            kept = int(from_payload(task.output)["passages"])
            await self._delete_points(section.id, first=kept)
            passages += kept
        await self._delete_sections(name, first=len(document.sections) + 1)
        self._manifest.put(name, Entry(document.digest, len(document.sections)))
        self.report.ingested[name] = passages

    async def _ingest_section(self, document: Document, number: int, section: Section) -> Task:
        task = await self._client.create(
            document_graph(self._folder.collection),
            {
                "document": {
                    "id": section.id,
                    "title": section.title,
                    "text": section.text,
                    "max_characters": PASSAGE_CHARACTERS,
                }
            },
            request_id=self._request_id(document, number),
            labels={"job": "ingest", "collection": self._folder.collection},
        )
        if task.state == TaskState.TASK_STATE_FAILED:
            # From an ingest that was broken off.
            task = await self._retry(task)
        async for event in self._client.watch(task.task_id):
            self._tally.add(event)
            self._board.update()
        return await self._client.get(task.task_id)

    async def _retry(self, task: Task) -> Task:
        try:
            return await self._client.retry(task.task_id)
        except StepwireError as error:
            if error.reason is not Reason.TASK_STATE_CONFLICT:
                raise
            # Another ingest of the same folder was faster.
            return task

    def _request_id(self, document: Document, number: int) -> str:
        """Returns the same id for the same work, as long as no ingest was completed since."""
        manifest = self._manifest
        identity = [
            self._folder.collection,
            manifest.generation,
            str(manifest.revision),
            document.name,
            document.digest,
            str(number),
        ]
        return "ingest/" + hashlib.sha256("\0".join(identity).encode()).hexdigest()

    def _gone(self, files: Mapping[str, Path]) -> Iterator[str]:
        prefix = f"{self._folder.label}/"
        for name in sorted(self._manifest.files):
            if name.startswith(prefix) and name not in files:
                yield name

    async def _remove(self, name: str) -> None:
        await self._delete_sections(name, first=1)
        self._manifest.remove(name)
        self.report.removed.append(name)

    async def _delete_sections(self, name: str, *, first: int) -> None:
        """Deletes the points of a file's sections from one number on.

        Goes beyond the sections that the manifest knows as long as there are any: an ingest
        that was broken off may have written more.
        """
        known = self._manifest.files.get(name)
        last = known.sections if known is not None else 0
        number = first
        while await self._delete_points(section_id(name, number), first=0) or number < last:
            number += 1

    async def _delete_points(self, section: str, *, first: int) -> int:
        ids = [f"{section}#{position}" for position in range(first, MAX_PASSAGES)]
        return await self._client.vectors.delete(self._folder.collection, ids)

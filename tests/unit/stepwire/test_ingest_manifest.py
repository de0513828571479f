from stepwire.ingest.manifest import Entry, Manifest, decode, manifest_name


def test_a_manifest_survives_being_written_and_read() -> None:
    manifest = Manifest(revision=3, folders={"notes": "/home/me/notes"})
    for number in range(300):
        manifest.put(f"notes/{number}.md", Entry(digest=f"{number:064}", sections=number % 3))
    read = decode(manifest.changes())
    assert read.files == manifest.files
    assert (read.revision, read.folders, read.generation) == (
        3,
        {"notes": "/home/me/notes"},
        manifest.generation,
    )


def test_only_what_changed_is_written_and_the_head_last() -> None:
    manifest = Manifest()
    for number in range(300):
        manifest.put(f"notes/{number}.md", Entry("d", 1))
    stored = {point.id: point for point in manifest.changes()}
    again = decode(stored.values())
    again.remove("notes/7.md")
    again.revision = 1
    changes = again.changes()
    assert len(changes) == 2
    assert changes[-1].id == "head"
    merged = decode((stored | {point.id: point for point in changes}).values())
    assert set(merged.files) == set(manifest.files) - {"notes/7.md"}
    assert merged.revision == 1


def test_two_new_manifests_are_of_different_generations() -> None:
    assert decode([]).generation != decode([]).generation


def test_the_manifest_has_a_collection_of_its_own() -> None:
    assert manifest_name("notes") == "notes-manifest"

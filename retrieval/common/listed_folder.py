"""A folder whose files are replaced one by one while its manifest lists them: each is verified when it is read.

Before a file is replaced, the manifest lists the new content as pending; after it, as the content. A kill between the
two leaves a file that is one of them. Files that the manifest does not list, as those of earlier versions, are read
unverified, see `unlisted`.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from retrieval.common.manifest import entry_of, entry_of_chunks, listed_file, read_manifest, write_manifest
from retrieval.common.storage import write_chunks
from retrieval.common.verified_folder import VerifiedFolder

FILES, PENDING = "files", "pending"  # entries of the manifest

Content = TypeVar("Content")


class ListedFolder:
    """Reads and replaces the files of a folder that its manifest lists. One process at a time may replace files."""

    def __init__(self, folder: pathlib.Path, manifest_name: str, remedy: Callable[[str], str]):
        """Opens a folder; nothing is read yet, and the folder may be missing.

        Args:
          folder: path of the folder.
          manifest_name: name of its manifest.
          remedy: returns the advice at the end of an error about a file, by its name.
        """
        self.folder = folder
        self._manifest_file = folder / manifest_name
        self._remedy = remedy

    def facts(self) -> dict[str, Any]:
        """Returns the content of the manifest; empty where there is none.

        Raises:
          ValueError: the manifest is damaged.
        """
        try:
            content = read_manifest(self._manifest_file)
            for entries in (content.get(FILES, {}), content.get(PENDING, {})):
                for name, entry in entries.items():
                    listed_file(name, entry)
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            name = self._manifest_file.name
            raise ValueError(f"{self._manifest_file} is damaged ({error}); {self._remedy(name)}") from None
        return content

    def begin(self, facts: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        """Writes a new manifest with some facts, and the first files."""
        write_manifest(self._manifest_file, {**facts, FILES: {}})
        self.write({name: [text.encode()] for name, text in texts.items()})

    def write(self, contents: Mapping[str, Iterable[bytes | memoryview]]) -> None:
        """Replaces files, each atomically and in this order, and lists them.

        Args:
          contents: the chunks of each file, by its path relative to the folder.
        """
        chunks = {name: list(content) for name, content in contents.items()}
        pending = {name: entry_of_chunks(content) for name, content in chunks.items()}
        facts = self._settled()
        for name in self.unlisted(pending):  # as of an earlier version: a kill must not make it look damaged
            facts[FILES][name] = entry_of(self.folder / name)
        write_manifest(self._manifest_file, {**facts, PENDING: pending})
        for name, content in chunks.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            write_chunks(self.folder / name, content)
        write_manifest(self._manifest_file, {**facts, FILES: {**facts[FILES], **pending}})

    def list_file(self, name: str) -> None:
        """Lists a file that was written by other means, as it is now."""
        facts = self._settled()
        files = {**facts[FILES], name: entry_of(self.folder / name)}
        write_manifest(self._manifest_file, {**facts, FILES: files})

    def unlist_file(self, name: str) -> None:
        """Lists a file no more, which is about to be written by other means."""
        facts = self._settled()
        if name in facts[FILES]:
            files = {other: entry for other, entry in facts[FILES].items() if other != name}
            write_manifest(self._manifest_file, {**facts, FILES: files})

    def read(self, name: str, parse: Callable[[bytes], Content]) -> Content | None:
        """Returns what `parse` makes of the content of a file, verified if it is listed; None if the file is missing.

        Raises:
          ValueError: the file has changed since it was written, or cannot be parsed; the message has the remedy.
        """
        while True:
            facts = self.facts()
            try:
                return self._read(name, parse, facts)
            except FileNotFoundError:
                return None
            except ValueError:
                if self.facts() == facts:  # else another process has replaced the file meanwhile
                    raise

    def json(self, name: str, missing: Any = None) -> Any:
        """Returns the content of a JSON file, as `read` does, or `missing`."""
        content = self.read(name, json.loads)
        return missing if content is None else content

    def unlisted(self, names: Iterable[str]) -> list[str]:
        """Returns the names of those of the files that exist and are read unverified."""
        facts = self.facts()
        listed = {**facts.get(FILES, {}), **facts.get(PENDING, {})}
        return [name for name in names if name not in listed and (self.folder / name).exists()]

    def _read(self, name: str, parse: Callable[[bytes], Content], facts: Mapping[str, Any]) -> Content:
        path = self.folder / name
        candidates = [entries[name] for key in (PENDING, FILES) if name in (entries := facts.get(key, {}))]
        content = path.read_bytes()
        files = VerifiedFolder(
            folder=self.folder,
            files={name: listed_file(name, candidates[-1])} if candidates else {},
            list_name=self._manifest_file.name,
            remedy=self._remedy(name),
            place=self.folder,
        )
        if candidates and entry_of_chunks([content]) not in candidates:
            files.check_content(name, memoryview(content))
        return files.parsed(name, content, parse)

    def _settled(self) -> dict[str, Any]:
        """Returns the manifest after a write that a kill may have interrupted: pending files that exist are listed."""
        facts = self.facts()
        files = dict(facts.get(FILES, {}))
        for name, entry in facts.pop(PENDING, {}).items():
            with contextlib.suppress(FileNotFoundError):
                if entry_of(self.folder / name) == entry:
                    files[name] = entry
        return {**facts, FILES: files}

"""`perpetune audit export | key | verify | prove`: the log for somebody who trusts nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from services.cli.connection import Connection, Json
from services.cli.errors import CommandFailed
from services.cli.output import AsJson, console, write_json, write_object
from shared.audit.checkpoint import Checkpoint
from shared.audit.export import checkpoint_line, entry_line, header_line, origin_of
from shared.audit.note import Verifier
from shared.audit.proof import FORMAT as PROOF_FORMAT
from shared.audit.proof import Proof
from shared.audit.proof import prove as proof_of
from shared.audit.verification import Report, verify_export
from shared.audit.witness import notes_in
from shared.errors import Corrupt

_PAGE = 1000

Export = Annotated[Path, typer.Argument(help="File made by 'perpetune audit export'.")]


def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="File to write; it is replaced.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Write the project's sealed log to a file that can be verified without us."""
    connection: Connection = ctx.obj
    newest = _newest(connection)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as output:
        for line in _lines(connection, newest):
            output.write(line + b"\n")
    partial.replace(file)
    result = {"file": str(file), "entries": newest["size"], "key": newest["key"]}
    if as_json:
        write_json(result)
        return
    console.print(f"{newest['size']} entries in {file}. Somebody who knows the key checks it with")
    console.print(f"  perpetune audit verify {file} --key '{newest['key']}'")


def key(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Print the public key the log is signed with; keep it where we cannot change it."""
    newest = _newest(ctx.obj)
    if as_json:
        write_json({"key": newest["key"]})
    else:
        console.print(newest["key"])


def verify(
    file: Annotated[Path, typer.Argument(help="An export, or the proof of one entry.")],
    key: Annotated[str, typer.Option(help="Public key, or a file that holds it.")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoints kept elsewhere, such as the witness; may be repeated."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check a file with the public key alone; where it fails, exit code 1 and the place."""
    verifier = Verifier.parse(_text(Path(key)) if Path(key).is_file() else key)
    with _opened(file) as lines:
        first = lines.readline()
        if first.rstrip().decode(errors="replace") == PROOF_FORMAT:
            _verify_proof(_text(file), verifier, as_json=as_json)
            return
        anchors = _anchors(checkpoint or [], origin_of(first), verifier)
        lines.seek(0)
        report = verify_export(lines, verifier, anchors)
    _tell(report, as_json=as_json)
    if report.fault:
        raise typer.Exit(1)


def prove(
    file: Export,
    entry: Annotated[str, typer.Argument(help="Number or id of the entry.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Print a proof that one entry is in the log; it can be checked without the others."""
    with _opened(file) as lines:
        proof = proof_of(lines, entry)
    if as_json:
        write_json({"seq": proof.index, "hashes": len(proof.path), "proof": str(proof)})
    else:
        typer.echo(str(proof), nl=False)


def _newest(connection: Connection) -> Json:
    found = connection.get("audit", "checkpoints", limit=1)["data"]
    if not found:
        raise CommandFailed(
            "Nothing of this project's audit log is sealed yet. The delivery process seals about "
            "every second; 'perpetune status' shows whether it runs."
        )
    newest: Json = found[0]
    return newest


def _lines(connection: Connection, newest: Json) -> Iterator[bytes]:
    """The log up to *newest*, each checkpoint behind the entries it covers."""
    size = newest["size"]
    yield header_line(Checkpoint.parse(newest["note"]).origin)
    checkpoints = connection.pages("audit", "checkpoints", order="asc", limit=_PAGE)
    coming: Json = next(checkpoints, newest)
    for one in connection.pages("audit", "sealed", limit=_PAGE):
        yield entry_line(one["seq"], one["leaf"], one["entry"])
        if one["seq"] + 1 == coming["size"]:
            yield checkpoint_line(coming["note"])
            coming = next(checkpoints, newest)
        if one["seq"] + 1 == size:
            return


def _anchors(files: list[Path], origin: str, verifier: Verifier) -> list[Checkpoint]:
    found = [
        Checkpoint.opened(note, verifier)
        for file in files
        for note in notes_in(_text(file))
        if Checkpoint.parse(note).origin == origin
    ]
    if files and not found:
        raise CommandFailed(
            f"{', '.join(map(str, files))} holds no checkpoint of {origin}, so there is nothing "
            "to compare with."
        )
    return found


def _verify_proof(text: str, verifier: Verifier, *, as_json: bool) -> None:
    proof = Proof.parse(text)
    try:
        signed = proof.checked(verifier)
    except Corrupt as error:
        if as_json:
            write_json({"ok": False, "seq": proof.index, "problem": error.message})
            raise typer.Exit(1) from error
        raise
    found = {"ok": True, "origin": signed.origin, "seq": proof.index, "size": signed.size}
    write_object({**found, "entry": json.loads(proof.content)}, as_json=as_json)


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        write_json({"ok": report.fault is None, **asdict(report)})
        return
    if fault := report.fault:
        exactly = f"entry {fault.first}"
        roughly = f"somewhere from entry {fault.first} to entry {fault.last}"
        where = exactly if fault.first == fault.last else roughly
        console.print(f"{report.origin} is not what was signed: {where}. {fault.problem}.")
        console.print(f"The {report.size} entries before are as signed." if report.size else "")
        return
    console.print(
        f"{report.origin}: {report.size} entries are as signed, root {report.root}, "
        f"{report.checkpoints} checkpoints in the file and {report.anchors} kept elsewhere agree."
    )
    if not report.anchors:
        console.print(
            "Whether the end was cut off, only a checkpoint kept elsewhere shows: --checkpoint."
        )


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}.") from error


def _text(file: Path) -> str:
    with _opened(file) as opened:
        return opened.read().decode(errors="replace")

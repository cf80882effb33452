"""500 damaged or hostile files: no code runs, nothing hangs, and the end is our error or the very same tensors."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from geoglot.errors import ModelFileError
from geoglot.models.checkpoints.load import load_checkpoint
from geoglot.models.checkpoints.zipped import MAX_PICKLE, imports
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import build

SHAPE = Architecture(
    VisionShape("vit", 8, 4, 8, (1,), 1, 8, "cls"), TextShape("clip", 5, 12, 8, 1, 1, 8), 4, "quick_gelu"
)
FILES, LIMIT_S = 500, 10.0
GOLDEN = Path(__file__).parent / "golden"
Random = random.Random
Mutation = Callable[[bytes, Random], bytes]


def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(9)
    return {name: torch.randn(t.shape) for name, t in build(SHAPE, device="meta").state_dict().items()}


def _torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


# --- programs that want to run -------------------------------------------------------------------


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _call(module: str, name: str, argument: str, style: str) -> bytes:
    """Opcodes that call module.name(argument) and leave the result on the stack."""
    if style == "stack":  # protocol 4
        return _text(module) + _text(name) + b"\x93" + _text(argument) + b"\x85R"
    if style == "inst":  # protocol 0
        return b"(" + _text(argument) + f"i{module}\n{name}\n".encode()
    if style == "obj":
        return b"(" + f"c{module}\n{name}\n".encode() + _text(argument) + b"o"
    if style == "new":
        return f"c{module}\n{name}\n".encode() + _text(argument) + b"\x85\x81"
    return f"c{module}\n{name}\n".encode() + _text(argument) + b"\x85R"


def _payloads(canary: Path) -> list[bytes]:
    touch, write = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    targets = [
        ("os", "system", touch),
        ("posix", "system", touch),
        ("nt", "system", touch),
        ("subprocess", "getoutput", touch),
        ("subprocess", "Popen", touch),
        ("pty", "spawn", touch),
        ("builtins", "eval", write),
        ("builtins", "exec", write),
        ("__builtin__", "eval", write),
        ("builtins", "__import__", "os"),
        ("builtins", "getattr", write),
        ("pickle", "loads", write),
        ("_pickle", "loads", write),
        ("torch", "load", str(canary)),
        ("torch.serialization", "load", str(canary)),
        ("torch.storage", "_load_from_bytes", write),
        ("torch.hub", "load", write),
        ("torch.jit", "load", str(canary)),
        ("torch._inductor.codecache", "PyCodeCache.load", write),
        ("numpy.testing._private.utils", "runstring", write),
        ("numpy", "load", str(canary)),
        ("functools", "partial", write),
        ("runpy", "run_path", str(canary)),
        ("collections.OrderedDict", "__init__", write),
        ("torch._utils", "_rebuild_tensor_v2.__globals__", write),
        ("torch", "FloatStorage.__init__.__globals__", write),
        ("builtins", "bytearray", "9" * 12),
    ]
    return [_call(*target, style) for target in targets for style in ("global", "stack", "inst", "obj", "new")]


def _rezip(raw: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The same archive with changed entries and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def _with_program(raw: bytes, program: Callable[[bytes], bytes]) -> bytes:
    return _rezip(raw, lambda name, content: program(content) if name.endswith("/data.pkl") else content)


class Splice:
    """Puts a payload into the pickle of an archive: before all, instead of all, after the table, or into it."""

    def __init__(self, canary: Path) -> None:
        self.payloads = _payloads(canary)

    def __call__(self, raw: bytes, rng: Random) -> bytes:
        payload, place = rng.choice(self.payloads), rng.randrange(4)

        def program(old: bytes) -> bytes:
            first, body, rest = old[:2], payload, old[2:]
            if place == 0:
                return first + body + b"0" + rest  # run, drop the result, go on
            if place == 1:
                return first + body + b"."
            if place == 2:
                return old[:-1] + body + b"0."
            return old[:-1] + _text("extra") + body + b"s."

        return _with_program(raw, program)

    def bare(self, _raw: bytes, rng: Random) -> bytes:
        """A pickle, a tar or a zip of a pickle, with no PyTorch around it."""
        program = b"\x80\x02" + rng.choice(self.payloads) + b"."
        kind = rng.randrange(4)
        if kind == 0:
            return program
        if kind == 1:
            return program[2:]
        if kind == 2:
            return pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + program * 4  # PyTorch before 1.6
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                info = tarfile.TarInfo(name)
                info.size = len(program)
                tar.addfile(info, io.BytesIO(program))
        return buffer.getvalue()


# --- damage --------------------------------------------------------------------------------------


def flip(raw: bytes, rng: Random) -> bytes:
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 3, 20))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_structure(raw: bytes, rng: Random) -> bytes:
    """Flips where it hurts: the first bytes, or a zip's directory at the end."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(300)
        out[place if rng.random() < 0.4 else len(out) - 1 - place] = rng.randrange(256)
    return bytes(out)


def cut(raw: bytes, rng: Random) -> bytes:
    return raw[: rng.randrange(len(raw))]


def splice_bytes(raw: bytes, rng: Random) -> bytes:
    first, length = rng.randrange(len(raw)), rng.randrange(1, 200)
    return raw[:first] + rng.choice((b"", rng.randbytes(length), raw[:length])) + raw[first + length :]


def flip_program(raw: bytes, rng: Random) -> bytes:
    """A damaged pickle inside an archive whose checksums are right."""
    return _with_program(raw, lambda old: flip(old, rng))


def cut_program(raw: bytes, rng: Random) -> bytes:
    return _with_program(raw, lambda old: cut(old, rng))


def zip_tricks(raw: bytes, rng: Random) -> bytes:
    kind = rng.randrange(9)
    if kind == 0:
        return b"MZ" + raw
    if kind == 1:
        return raw + rng.randbytes(50)
    if kind == 2:
        return raw + raw
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        for name in names:
            method = zipfile.ZIP_DEFLATED if kind == 3 else zipfile.ZIP_STORED
            new.writestr(name, old.read(name), method)
        if kind == 4:
            new.writestr(names[0].partition("/")[0] + "/data/bomb", bytes(5_000_000), zipfile.ZIP_DEFLATED)
        elif kind == 5:
            new.writestr("../../outside/data.pkl", b"\x80\x02}.")
        elif kind == 6:
            new.writestr("other/data.pkl", b"\x80\x02}.")
        elif kind == 7:
            new.writestr(names[0].partition("/")[0] + "/../x", b"")
    out = bytearray(buffer.getvalue())
    if kind == 8:  # every size in the directory lies
        place = out.find(b"PK\x01\x02")
        while place >= 0:
            out[place + 20 : place + 28] = struct.pack("<II", *(rng.choice(((2**31,) * 2, (0, 0), (1, 2**32 - 1)))))
            place = out.find(b"PK\x01\x02", place + 4)
    return bytes(out)


def twin_entries(raw: bytes, _rng: Random) -> bytes:
    """Two entries of one name: readers disagree on which one counts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            if name.endswith("/data.pkl"):
                new.writestr(name[:-1] + "m", b"\x80\x02}.")
    return buffer.getvalue().replace(b"/data.pkm", b"/data.pkl")


def header_tricks(raw: bytes, rng: Random) -> bytes:
    """safetensors headers that lie."""
    length = int.from_bytes(raw[:8], "little")
    table, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    name = rng.choice([key for key in table if key != "__metadata__"])
    entry = table[name]
    kind = rng.randrange(12)
    if kind == 0:
        return rng.choice((2**63, 2**64 - 1, 100_000_001, len(raw))).to_bytes(8, "little") + raw[8:]
    if kind == 1:
        entry["shape"] = [-1, *entry["shape"]]
    elif kind == 2:
        entry["data_offsets"] = [rng.randrange(-50, 10**6), rng.randrange(10**6)]
    elif kind == 3:
        entry["data_offsets"] = [0, 2**64]
    elif kind == 4:
        entry["dtype"] = rng.choice(("F8_E4M3", "f32", "", 3, None, "OBJECT"))
    elif kind == 5:
        entry["shape"] = [2**40, 2**40, 0]
    elif kind == 6:
        text = json.dumps(table)[:-1] + f",{json.dumps(name)}:{json.dumps(entry)}" + "}"
        return len(text).to_bytes(8, "little") + text.encode() + data
    elif kind == 7:
        text = rng.choice(("[" * 50_000, "{" * 50_000, "null", "3", '"x"', "{} {}", "NaN"))
        return len(text).to_bytes(8, "little") + text.encode() + data
    elif kind == 8:
        del table[name]
    elif kind == 9:
        entry["extra"] = 1
    elif kind == 10:
        table["__metadata__"] = rng.choice((3, [1], {"a": 1}, {"a": {"b": "c"}}))
    else:
        entry["shape"] = [float(n) for n in entry["shape"]] or ["1"]
    text = json.dumps(table)
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data


# --- the run -------------------------------------------------------------------------------------


def _seeds() -> dict[str, tuple[bytes, Architecture]]:
    from geoglot.config import from_table

    state = _state()
    cases = {c["name"]: c for c in json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["cases"]}
    openai = from_table(Architecture, cases["clip-vit-openai"]["architecture"])
    trainer = {"epoch": 1, "state_dict": {f"module.{n}": t for n, t in state.items()}, "optimizer": {"lr": 0.1}}
    return {
        "bare": (_torch_file(state), SHAPE),
        "trainer": (_torch_file(trainer), SHAPE),
        "safetensors": (save(state), SHAPE),
        "torchscript": ((GOLDEN / "clip-vit-openai/openai_jit.pt").read_bytes(), openai),
    }


def _plan(canary: Path) -> list[tuple[str, Mutation, int]]:
    """(seed file, mutation, how often); 500 together."""
    evil = Splice(canary)
    everywhere = [(flip, 10), (flip_structure, 20), (cut, 10), (splice_bytes, 10)]
    plan = [(seed, m, n) for seed in ("bare", "trainer", "safetensors", "torchscript") for m, n in everywhere]
    archive = [(evil, 45), (flip_program, 20), (cut_program, 8), (zip_tricks, 12), (twin_entries, 1)]
    plan += [(seed, m, n) for seed in ("bare", "torchscript") for m, n in archive]
    return [*plan, ("trainer", evil, 40), ("safetensors", header_tricks, 58), ("bare", evil.bare, 30)]


def _outcome(path: Path, architecture: Architecture, expected: dict[str, torch.Tensor]) -> str:
    try:
        tensors = load_checkpoint(path, architecture=architecture).tensors
    except ModelFileError as error:
        return "refused" if error.hint else f"refused without a hint: {error}"
    same = set(tensors) == set(expected) and all(torch.equal(tensors[name], t) for name, t in expected.items())
    return "same tensors" if same else "other tensors"


def test_500_mutated_files(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pt"
    seeds, rng = _seeds(), random.Random(20)
    plan = _plan(canary)
    assert sum(times for *_, times in plan) == FILES
    expected, checksums = {}, {}
    for name, (raw, architecture) in seeds.items():
        path.write_bytes(raw)
        loaded = load_checkpoint(path, architecture=architecture).tensors
        expected[name] = {n: t.clone() for n, t in loaded.items()}
        checksums[name] = hashlib.sha256(raw).hexdigest()
    outcomes: Counter[str] = Counter()
    for name, mutate, times in plan:
        raw, architecture = seeds[name]
        for _ in range(times):
            path.unlink()  # what is still mapped must not change under its reader
            path.write_bytes(mutate(raw, rng))
            before = time.process_time()
            outcome = _outcome(path, architecture, expected[name])
            assert time.process_time() - before < LIMIT_S
            assert not canary.exists(), f"{mutate} of {name} ran code"
            if outcome == "other tensors":  # safetensors has no checksum of its own: only the card's can tell
                assert name == "safetensors", f"{mutate} of {name} read other tensors"
                with pytest.raises(ModelFileError, match="checksum"):
                    load_checkpoint(path, architecture=architecture, sha256=checksums[name])
            outcomes[outcome] += 1
    assert set(outcomes) <= {"refused", "same tensors", "other tensors"}
    assert outcomes["refused"] > 400, outcomes
    assert outcomes["same tensors"] > 0, outcomes  # some damage is harmless, so the comparison is not idle


def test_the_canary_can_sing(tmp_path: Path) -> None:
    """Plain pickle runs these payloads: the files above are hostile indeed."""
    canary, sung = tmp_path / "canary", 0
    for payload in _payloads(canary)[:45]:
        program = b"\x80\x02" + payload + b"."
        done = subprocess.run([sys.executable, "-c", _PLAIN], input=program, capture_output=True, check=False)
        sung += canary.exists()
        canary.unlink(missing_ok=True)
        if sung >= 3 or done.returncode:
            break
    assert sung >= 3


_PLAIN = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"

_WATCHED = """
import sys
from pathlib import Path
from geoglot.errors import ModelFileError
from geoglot.models.checkpoints.open import read_tensors
read = 0
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect",
             "pty.spawn", "os.remove", "os.rename", "pickle.find_class")
def watch(event, arguments):
    if event in FORBIDDEN:
        print("FORBIDDEN", event, arguments, flush=True)
sys.addaudithook(watch)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_tensors(path)
    except ModelFileError:
        read += 1
print("refused", read)
"""


def test_nothing_is_even_tried(tmp_path: Path) -> None:
    """Every payload in every archive, under an audit hook that sees each attempt to run, spawn, connect or import."""
    canary, folder = tmp_path / "canary", tmp_path / "files"
    folder.mkdir()
    seeds = _seeds()
    payloads = _payloads(canary)
    for i, payload in enumerate(payloads):
        raw = seeds["bare" if i % 3 else "torchscript"][0]
        spliced = _with_program(raw, lambda old, body=payload: old[:2] + body + b"0" + old[2:])  # type: ignore[misc]
        (folder / f"{i}.pt").write_bytes(spliced)
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split("\n")[:-1] == [f"refused {len(payloads)}"], done.stderr
    assert not canary.exists()


def test_a_huge_pickle_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", bytes(MAX_PICKLE + 1))
    with pytest.raises(ModelFileError, match="more than"):
        load_checkpoint(path, architecture=SHAPE)


def test_imports_are_listed_without_importing() -> None:
    program = b"\x80\x02" + _call("geoglot_no_such_module", "f", "x", "global") + b"."
    assert imports(Path("x.pt"), program) == {"geoglot_no_such_module.f"}
    assert "geoglot_no_such_module" not in sys.modules

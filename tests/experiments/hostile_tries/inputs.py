"""Spec files, names, models, data and web addresses that are made to do harm."""

from __future__ import annotations

import http.server
import io
import json
import os
import random
import resource
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostile_tries.bench import MODEL, Bench, SkippedError, attempt

MARKUP = "[/red]x[bold]<script>"


def _spec(bench: Bench, text: str | bytes) -> Path:
    file = bench.new_folder() / "spec.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return file


@attempt(42, "TOML: 3,000 nested arrays; an integer of 5,000 digits", "a sentence, exit code 2")
def deep_toml(bench: Bench) -> None:
    for text in ("recipes = " + "[" * 3000 + "]" * 3000, "seed = " + "9" * 5000):
        bench.cli("sweep", _spec(bench, text), "--dry-run").refuses(2)


@attempt(43, "TOML: doubled keys, dates, NUL, surrogates, huge threads, unknown keys", "a sentence, exit code 2")
def odd_toml(bench: Bench) -> None:
    odd = (
        "seed = 1\nseed = 2",
        "seed = 2026-01-01",
        b"seed = 1\0",
        "model = '\udc80'",
        "seed = nan",
        "seed = 99999999999999999999",
        "threads = [99999999999999999999]",
        "threads = [-1]",
        ".".join("k" * 500) + " = 1",
    )
    for text in odd:
        bench.cli("sweep", _spec(bench, text), "--dry-run").refuses(2)


@attempt(44, "delegates with shell code in a spec", "refused, or quoted and never ranked; nothing runs")
def shell_in_spec(bench: Bench) -> None:
    witness = bench.folder / "ran"
    for name in (f"gpu; touch {witness}", f"external:$(touch {witness})", f"nnapi:`touch {witness}`"):
        command = bench.sweep_command()
        spec = Path(command[1])
        spec.write_text(spec.read_text().replace('["cpu"]', f"['{name}']"))
        ended = bench.cli(*command).is_clean(1, 2)
        if "rows" not in json.loads(ended.out):
            ended.refuses().says("elegate")
        else:
            assert [row["rank"] for row in ended.rows] == [None], ended.rows
    assert not witness.exists()
    assert not bench.device.run(["ls", str(witness)], timeout_s=9).ok


@attempt(45, "markup as the name of a device, with --dry-run", "a sentence or a plan, no traceback")
def markup_device(bench: Bench) -> None:
    bench.cli("sweep", bench.spec(), "--device", MARKUP, "--dry-run").is_clean()
    spec = bench.spec()
    spec.write_text(f"devices = ['{MARKUP}']\n" + spec.read_text())
    bench.cli("sweep", spec, "--dry-run").is_clean()


@attempt(46, "markup as a sweep, a host", "a sentence")
def markup_names(bench: Bench) -> None:
    bench.sweep(on_host=True).is_clean()
    results = ("--results", bench.results)
    bench.cli("sweep", "--resume", "[/b]", *results).refuses(2, 3).says("[/b]")
    bench.cli("results", "show", "[/b]", *results).refuses(2, 3).says("[/b]")
    bench.cli("explain", "[/b]", "[/b]", *results).refuses(2, 3).says("[/b]")
    bench.cli("sweep", bench.spec(), "--host", "[/b]").refuses(1, 2, 3).says("[/b]")


def _sweep_model(bench: Bench, model: Path | bytes) -> bool:
    """Return True if a model was measured; fail if it was neither that nor refused in a sentence."""
    bench.tool("", on_host=True)
    name = os.fsdecode(model) if isinstance(model, bytes) else str(model)
    results = bench.new_folder() / "results"
    options = ["--device", "host", "--recipe", "as-is", "--delegate", "cpu", "--results", str(results)]
    few = ["--invocations", "5", "--runs", "10"]
    ended = bench.cli("sweep", "--model", name, *options, *few, "--json").is_clean(0, 1, 2, 3)
    if not ended.out.strip() or "rows" not in json.loads(ended.out):
        ended.refuses()
        return False
    assert all(row["invocations_ok"] or row["failure_message"] for row in ended.rows), ended.rows
    return any(row["invocations_ok"] for row in ended.rows)


@attempt(47, "model paths: dash, newline, emoji, 240 characters, loop, folder", "works, or a sentence", slow=True)
def odd_paths(bench: Bench) -> None:
    folder = bench.new_folder()
    loop = folder / "loop.tflite"
    loop.symlink_to(loop)
    names = ("-rf.tflite", "two\nlines.tflite", "😀<script>.tflite", "x" * 240 + ".tflite")
    for name in names:
        shutil.copyfile(MODEL, folder / name)
    for name in names:
        assert _sweep_model(bench, folder / name), name
    assert not _sweep_model(bench, loop)
    assert not _sweep_model(bench, folder)


@attempt(48, "a model path that is not UTF-8", "works, or a sentence")
def bytes_path(bench: Bench) -> None:
    path = os.fsencode(bench.new_folder()) + b"/odd\xff\xfe.tflite"
    shutil.copyfile(MODEL, path)
    _sweep_model(bench, path)


@attempt(49, "fuzzed .tflite files", "a row or a sentence; no hang", slow=True)
def fuzzed_models(bench: Bench) -> None:
    whole, dice, folder = MODEL.read_bytes(), random.Random(7), bench.new_folder()
    flipped = bytearray(whole)
    for _ in range(40):
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
    huge = bytearray(whole)
    for place in (8, 40, 80):
        huge[place : place + 4] = b"\xff\xff\xff\x7f"
    for number, data in enumerate((bytes(flipped), bytes(huge), whole[: len(whole) // 2], whole[:8], b"")):
        path = folder / f"fuzz{number}.tflite"
        path.write_bytes(data)
        assert not _sweep_model(bench, path) or len(data) == len(whole), f"{len(data)} bytes were measured"


def _keras(bench: Bench, config: object, *, extra: str = "") -> Path:
    path = bench.new_folder() / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": "2026-01-01"}))
        archive.writestr("model.weights.h5", b"")
        if extra:
            archive.writestr(extra, "out")
    return path


@attempt(50, ".keras with a Lambda layer", "refused; nothing runs", slow=True)
def lambda_layer(bench: Bench) -> None:
    try:
        import keras
    except ImportError as error:
        raise SkippedError("no Keras") from error
    witness, path = bench.folder / "lambda-ran", bench.new_folder() / "lambda.keras"
    inputs = keras.Input((4,))
    touch = eval(f"lambda x: (open({str(witness)!r}, 'w').close(), x)[1]")
    keras.Model(inputs, keras.layers.Lambda(touch, output_shape=(4,))(inputs)).save(path)
    witness.unlink(missing_ok=True)
    bench.cli("compress", path, "--recipe", "fp32", "-o", bench.new_folder()).refuses(1, 2, 3).says("ambda")
    assert not witness.exists()


@attempt(51, ".keras: ../ entries, a module to import, JSON 100,000 deep", "no escape, a sentence", slow=True)
def odd_keras(bench: Bench) -> None:
    witness = bench.folder / "imported"
    system = {
        "module": "os",
        "class_name": "system",
        "config": {"command": f"touch {witness}"},
        "registered_name": None,
    }
    for path in (
        _keras(bench, system),
        _keras(bench, {"class_name": "Functional", "config": {}}, extra="../../escaped.txt"),
        _keras(bench, "[" * 100_000 + "]" * 100_000),
    ):
        bench.cli("compress", path, "--recipe", "fp32", "-o", bench.new_folder()).refuses(1, 2, 3)
    assert not witness.exists()
    assert not list(bench.folder.glob("**/escaped.txt"))


@attempt(52, ".keras: 3 MB that unpack to 3 GB", "bounded memory, a sentence", slow=True)
def zip_bomb(bench: Bench) -> None:
    path = bench.new_folder() / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("model.weights.h5", b"")
        with archive.open("config.json", "w", force_zip64=True) as config:
            for _ in range(3000):
                config.write(bytes(1_000_000))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    bench.cli("compress", path, "--recipe", "fp32", "-o", bench.new_folder()).refuses(1, 2, 3)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, 2_500_000), f"{after / 1e6:.1f} GB"


@attempt(53, ".npy and .npz of pickled objects", "refused; nothing runs")
def pickles(bench: Bench) -> None:
    import numpy as np

    bench.tool("", on_host=True)
    witness, folder = bench.folder / "unpickled", bench.new_folder()

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {witness}",)

    objects = np.empty(2, dtype=object)
    objects[:] = [Touch(), Touch()]
    np.save(folder / "x.npy", objects, allow_pickle=True)
    np.savez(folder / "data.npz", images=objects, labels=np.zeros(2))
    model = folder / "model.toml"
    model.write_text(
        f"name = 'odd'\n[source]\nkind = 'tflite'\npath = '{MODEL}'\n"
        "[data]\npath = 'data.npz'\nlicence = 'none'\norigin = 'made here'\n"
    )
    bench.cli("sweep", "--model", model, "--device", "host", "--recipe", "as-is").refuses(1, 2, 3).says(
        "Python objects"
    )
    assert not witness.exists()


@attempt(54, "a .tflite that changes while it is read", "works, or a sentence")
def changing_model(bench: Bench) -> None:
    path, over = bench.new_folder() / "changing.tflite", threading.Event()
    whole = MODEL.read_bytes()
    path.write_bytes(whole)

    def change() -> None:
        while not over.wait(0.02):
            path.write_bytes(whole[: len(whole) // 2])
            path.write_bytes(whole)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        _sweep_model(bench, path)
    finally:
        over.set()
        thread.join()


@contextmanager
def _web(location: str) -> Iterator[tuple[str, list[str]]]:
    """Serve redirects to a location; yield the address and what was asked for."""
    asked: list[str] = []

    class Redirects(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(f"POST {self.path}")
            self.send_response(302)
            self.send_header("Location", location)
            self.end_headers()

        def do_GET(self) -> None:
            asked.append(f"GET {self.path}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def _post(address: str) -> str:
    from harness.errors import HarnessError
    from harness.nightly.webhook import post, require_webhook

    try:
        require_webhook(address)
        return str(post(address, {"night": 1}))
    except HarnessError as error:
        return f"refused: {error}"


@attempt(56, "a webhook that redirects to another address", "not followed, and not called delivered")
def redirect(bench: Bench) -> None:
    with _web("/internal") as (address, asked):
        said = _post(f"{address}/hook")
    assert asked == ["POST /hook"], asked
    assert "(200)" not in said, said


@attempt(57, "webhooks to file://, ftp://, with CR LF, broken IPv6; a redirect to file://", "refused")
def odd_webhooks(bench: Bench) -> None:
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1/a\r\nX: y", "http://[::1"):
        said = _post(address)
        assert said.startswith("refused:"), said
    with _web("file:///etc/passwd") as (address, _):
        assert "(200)" not in _post(address)


@attempt(58, "passwords in a webhook and in a database's address", "never shown")
def passwords(bench: Bench) -> None:
    secret = "s3cr3t-word"
    for user in ("", f"user:{secret}@"):
        said = _post(f"http://{user}127.0.0.1:9/hook?token={secret}")
        assert secret not in said, said
    url = f"postgresql://user:{secret}@127.0.0.1:9/db?password={secret}"
    ended = bench.cli("results", "list", "--results", url).refuses().says("postgresql://")
    assert secret not in ended.said


@attempt(59, "a sweep of a model that is called markup: JUnit and HTML", "well-formed and escaped")
def markup_model(bench: Bench) -> None:
    from xml.etree import ElementTree

    folder = bench.new_folder()
    path = folder / "<script>alert(1)<&>.tflite".replace("/", "")
    shutil.copyfile(MODEL, path)
    bench.sweep(on_host=True, model=path).is_clean()
    page = folder / "report.html"
    bench.cli("report", "latest", "--results", bench.results, "-o", page).is_clean(0, 1)
    shown = page.read_text()
    assert "alert(1)" in shown, "the name is not shown"
    assert "<script>alert(1)" not in shown
    night, junit = bench.spec(model=path), folder / "junit.xml"
    night.write_text("devices = ['host']\n" + night.read_text())
    bench.cli("nightly", night, "--results", bench.new_folder() / "r", "--junit", junit).is_clean()
    assert list(ElementTree.parse(junit).iter("testcase"))
    path.unlink()
    bench.cli("nightly", night, "--results", bench.new_folder() / "r", "--junit", junit).refuses()
    (reason,) = ElementTree.parse(junit).iter("error")
    assert "<script>alert(1)" in reason.get("message", ""), "the name is not shown"


@attempt(61, "the working folder is deleted; a HOME that cannot be made", "a sentence")
def no_folders(bench: Bench) -> None:
    gone = bench.new_folder()
    shell = f'cd {gone} && rmdir {gone} && exec "$@"'
    ended = bench.sweep(on_host=True, shell=shell).is_clean(0, 1, 2, 3)
    assert "rror: " in ended.err or bench.show()[0]["invocations_ok"] == 5
    environment = {"HOME": "/proc/nohome", "HARNESS_CACHE": ""}
    said = bench.cli("sweep", bench.spec(), "--device", "host", environment=environment).refuses(1, 2, 3).said
    assert "fault of harness" not in said, said[-200:]


@attempt(62, "tensor names with markup: compress --show, evaluate, explain", "shown as they are")
def markup_tensors(bench: Bench) -> None:
    whole = MODEL.read_bytes()
    name = max(_names(whole), key=len)
    evil = b"[/red][bold]" + name[12:] if len(name) > 12 else b"[/red]"[: len(name)]
    path = bench.new_folder() / "names.tflite"
    path.write_bytes(whole.replace(name, evil.ljust(len(name), b"]")))
    assert path.read_bytes() != whole, "no name was changed"
    bench.sweep(on_host=True, model=path).is_clean()
    bench.cli("explain", "as-is", "cpu", "--results", bench.results).is_clean()
    bench.cli("compress", path, "--recipe", "as-is", "--show", "-o", bench.new_folder()).is_clean()


def _names(data: bytes) -> list[bytes]:
    """Return strings of a flatbuffer that look like names of tensors."""
    strings = subprocess.run(["strings", "-n", "6", "-"], input=data, capture_output=True, check=False).stdout
    found = [line for line in io.BytesIO(strings).read().split(b"\n") if b"/" in line or b"_" in line]
    return found or [b"serving"]

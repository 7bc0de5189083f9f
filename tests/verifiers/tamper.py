"""Damages a log in many ways and looks that the verifiers beside this file notice each.

    tamper.py DIR TLOG [PYTHON_FOR_RECEIPT PYTHON_FOR_TLOG_PROOF]

DIR is a log as the example program `write_log` of guan-evidence leaves it, of 600 leaves or more; TLOG
is the program built from tlog.go. With the two interpreters, receipt.py and tlog_proof.py are tried
too. DIR itself is not touched.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def flip(at):
    """Changes one bit of a file; negative places count from its end."""

    def change(path):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return change


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def swap_two_leaves(path):
    data = path.read_bytes()
    first = 2 + int.from_bytes(data[:2], "big")
    second = first + 2 + int.from_bytes(data[first : first + 2], "big")
    path.write_bytes(data[first:second] + data[:first] + data[second:])


def leaf_and_its_hash(path):
    """Forges a leaf and puts its hash into the tile, so that only the level above gives it away."""
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    tile = path.parent.parent / "0" / path.name
    leaf = data[2 : 2 + int.from_bytes(data[:2], "big")]
    tile.write_bytes(hashlib.sha256(b"\0" + leaf).digest() + tile.read_bytes()[32:])


def replace(old, new):
    def change(path):
        data = path.read_bytes()
        assert old in data, f"{path} has no {old}"
        path.write_bytes(data.replace(old, new, 1))

    return change


def drop_last_signature(path):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")


def damages(log):
    partial = next((log / "tile" / "0").rglob("*.p/*")).relative_to(log)
    higher = next((log / "tile" / "1").rglob("*.p/*")).relative_to(log)
    size = (log / "checkpoint").read_text(encoding="utf-8").split("\n")[1]
    older = min((log / "checkpoints").iterdir(), key=lambda path: int(path.name)).relative_to(log)
    index = (log / "leaf.tlog-proof").read_text(encoding="utf-8").split("\n")[1]
    yield "tlog", "a leaf", "tile/entries/001", flip(5)
    yield "tlog", "a leaf at the end", "tile/entries/001", flip(-1)
    yield "tlog", "a leaf and its hash", "tile/entries/001", leaf_and_its_hash
    yield "tlog", "a hash of a higher tile", higher, flip(-1)
    yield "tlog", "two leaves swapped", "tile/entries/000", swap_two_leaves
    yield "tlog", "a bundle cut", "tile/entries/000", cut
    yield "tlog", "a bundle gone", "tile/entries/001", pathlib.Path.unlink
    yield "tlog", "a hash of a tile", "tile/0/001", flip(100)
    yield "tlog", "a hash of the partial tile", partial, flip(0)
    yield "tlog", "a tile cut", "tile/0/000", cut
    yield "tlog", "size in the checkpoint", "checkpoint", replace(size.encode(), b"99999999")
    yield "tlog", "signature of the log", "checkpoint", replace(b"\xe2\x80\x94 guan", b"\xe2\x80\x94 guam")
    yield "tlog", "signature of a witness", "checkpoint", drop_last_signature
    yield "tlog", "an older head", older, flip(30)
    yield "receipt", "the receipt's proof", "leaf.receipt", flip(200)
    yield "receipt", "the receipt's signature", "leaf.receipt", flip(-1)
    yield "receipt", "the leaf", "leaf", flip(0)
    yield "tlog_proof", "the index", "leaf.tlog-proof", replace(index.encode(), b"index 1")
    yield "tlog_proof", "the path", "leaf.tlog-proof", flip(60)
    yield "tlog_proof", "a cosignature", "leaf.tlog-proof", drop_last_signature
    yield "tlog_proof", "the leaf", "leaf", flip(0)


def verifiers(tlog, pythons):
    def key(log, name):
        return (log / name).read_text(encoding="utf-8").strip()

    found = {
        "tlog": lambda log: [tlog, log, key(log, "log.vkey"), key(log, "w1.vkey"), key(log, "w2.vkey")]
    }
    if pythons:
        found["receipt"] = lambda log: [
            pythons[0], HERE / "receipt.py", log / "leaf.receipt", log / "leaf", key(log, "log.vkey")
        ]
        found["tlog_proof"] = lambda log: [
            pythons[1], HERE / "tlog_proof.py", log / "leaf.tlog-proof", log / "leaf", log / "policy"
        ]
    return found


def main(log, tlog, *pythons):
    log, failed = pathlib.Path(log), 0
    found = verifiers(tlog, pythons)
    for name, command in found.items():
        done = subprocess.run(command(log), capture_output=True, text=True)
        print(f"untouched, {name}: {(done.stdout or done.stderr).strip()}")
        failed += done.returncode != 0
    for name, what, file, change in damages(log):
        if name not in found:
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "log"
            shutil.copytree(log, copy)
            change(copy / file)
            done = subprocess.run(found[name](copy), capture_output=True, text=True)
        # A verifier that crashes has not given its verdict.
        noticed = done.returncode == 1 and "Traceback" not in done.stderr
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        print(f"{what}, {name}: {'noticed' if noticed else 'NOT NOTICED'}: {reason[0][:150]}")
        failed += not noticed
    return failed


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5):
        sys.exit("usage: tamper.py DIR TLOG [PYTHON_FOR_RECEIPT PYTHON_FOR_TLOG_PROOF]")
    sys.exit(1 if main(*sys.argv[1:]) else 0)

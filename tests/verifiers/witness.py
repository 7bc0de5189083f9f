"""Holds our witness against aics-witness, which Guankou's authors did not write: both get the same
requests in the same order and must answer the same.

    witness.py OUR_WITNESS

OUR_WITNESS is the example program `witness_answer` of guan-evidence. Statuses, sizes in conflicts and
cosignature lines must be equal byte for byte: both sign with the same key at the same second.

    pip install aics-witness==0.1.0    (Python 3.12 or later)
"""

import pathlib
import subprocess
import sys
import tempfile

from aics_tlog import checkpoint, note, tree
from aics_witness import protocol
from aics_witness.config import LogConfig
from aics_witness.service import Witness, WitnessError
from aics_witness.store import WitnessStore
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "guan.example/box-7"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([8] * 32))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
NOW = 1_800_000_000


class Log:
    """A log whose leaves differ from the honest ones from `fork` on."""

    def __init__(self, fork):
        leaves = (f"leaf {n}" if n < fork else f"forged {n}" for n in range(600))
        self.tree = tree.MerkleTree(leaf.encode() for leaf in leaves)

    def note(self, size, key=LOG_KEY, origin=ORIGIN):
        head = checkpoint.Checkpoint(origin=origin, size=size, root=self.tree.root(size))
        return checkpoint.sign_checkpoint(head, key, origin).to_bytes()

    def request(self, old, new, **other):
        proof = self.tree.consistency_proof(old, new) if 0 < old < new else []
        return protocol.format_add_checkpoint_request(old, proof, self.note(new, **other))


def requests():
    honest, forked = Log(600), Log(300)
    good = honest.request(0, 7)
    yield "first", good
    yield "stale old size", honest.request(0, 9)
    yield "growth", honest.request(7, 256)
    yield "same again", honest.request(256, 256)
    yield "growth over bundles", honest.request(256, 513)
    yield "rollback", honest.request(256, 400)
    yield "old above new", honest.request(0, 400).replace(b"old 0", b"old 401")
    yield "fork, same size", forked.request(513, 513)
    yield "fork, other old size", forked.request(256, 513)
    yield "fork, growth", forked.request(513, 600)
    yield "proof at old size 0", good.replace(b"old 0\n", b"old 0\n" + b"A" * 43 + b"=\n")
    yield "unknown key", honest.request(513, 600, key=STRANGER)
    yield "unknown log", honest.request(513, 600, origin="guan.example/box-8")
    lines = honest.request(513, 600).split(b"\n")
    yield "proof cut", b"\n".join(lines[:1] + lines[2:])
    yield "proof misspelt", b"\n".join([lines[0], lines[1].swapcase()] + lines[2:])
    yield "size changed", honest.request(513, 600).replace(b"\n600\n", b"\n599\n")
    yield "leading zero", honest.request(513, 600).replace(b"old ", b"old 0")
    yield "no empty line", honest.request(513, 600).replace(b"\n\n", b"\n")
    yield "nothing", b""
    yield "not UTF-8", b"\xff"
    yield "growth at last", honest.request(513, 600)


def theirs(witness, body):
    try:
        return 200, witness.add_checkpoint(body)
    except WitnessError as refusal:
        return refusal.status, refusal.body


def main(ours):
    vkey = note.format_vkey(note.vkey_from_ed25519(ORIGIN, LOG_KEY.public_key()))
    with tempfile.TemporaryDirectory() as folder:
        state = pathlib.Path(folder) / "ours"
        store = WitnessStore(pathlib.Path(folder) / "theirs.db", create=True)
        log = LogConfig(origin=ORIGIN, vkeys=(note.parse_vkey(vkey),))
        witness = Witness("space.example/w1", WITNESS_KEY, store, [log], clock=lambda: NOW)
        for name, body in requests():
            status, answer = theirs(witness, body)
            done = subprocess.run([ours, state, vkey, str(NOW)], input=body, capture_output=True)
            if done.returncode != 0:
                return f"{name}: {done.stderr.decode()}"
            our_status, _, our_answer = done.stdout.split(b"\n", 2)
            if int(our_status) != status:
                return f"{name}: we answer {our_status.decode()}, they {status}: {answer}"
            if status in (200, 409) and our_answer != answer:
                return f"{name}: we answer {our_answer}, they {answer}"
            print(f"{status} {name}")
    return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: witness.py OUR_WITNESS")
    reason = main(sys.argv[1])
    if reason:
        sys.exit(f"witness: {reason}")

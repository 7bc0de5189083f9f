"""Checks a COSE consistency receipt (RFC 9942, proof kind -2) between two signed checkpoints.

    growth.py RECEIPT OLD_CHECKPOINT NEW_CHECKPOINT VKEY

CBOR is read by cbor2, signatures by cryptography, notes and the Merkle proof by metamorphic-log; only
the layout of the receipt is known here, since scitt-cose reads inclusion receipts alone.
Exit 0: it holds. Exit 1: the reason is on standard error.

    pip install cbor2==6.3.0 cryptography metamorphic-log==0.1.11
"""

import base64
import sys

import cbor2
import metamorphic_log
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALG, CLAIMS, TREE, PROOFS = 1, 15, 395, 396
EDDSA, RFC9162_SHA256, CONSISTENCY = -8, 1, -2


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def main(receipt_path, old_path, new_path, vkey):
    vkey = vkey.strip()
    old, new = (metamorphic_log.checkpoint_verify(read(path), [vkey]) for path in (old_path, new_path))
    with open(receipt_path, "rb") as file:
        receipt = cbor2.loads(file.read())
    if receipt.tag != 18:
        raise ValueError("this is no COSE_Sign1")
    protected, unprotected, payload, signature = receipt.value
    header = cbor2.loads(protected)
    if (header[ALG], header[TREE], payload) != (EDDSA, RFC9162_SHA256, None):
        raise ValueError("this is no detached receipt with EdDSA over RFC9162_SHA256")
    if header[CLAIMS][1] != new.origin:
        raise ValueError(f"the receipt is of {header[CLAIMS][1]}, not of {new.origin}")
    (proof,) = unprotected[PROOFS][CONSISTENCY]
    old_size, new_size, path = cbor2.loads(proof)
    if (old_size, new_size) != (old.size, new.size):
        raise ValueError(f"the receipt leads from {old_size} to {new_size}")
    metamorphic_log.verify_consistency(old_size, new_size, list(path), old.root, new.root)
    signed = cbor2.dumps(["Signature1", protected, b"", new.root])
    key = base64.b64decode(vkey.split("+", 2)[2], validate=True)[1:]
    Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    print(f"{new.origin}: the tree of {new_size} continues that of {old_size}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: growth.py RECEIPT OLD_CHECKPOINT NEW_CHECKPOINT VKEY")
    try:
        main(*sys.argv[1:])
    except InvalidSignature:
        sys.exit("growth: the signature does not fit: proof or receipt were altered")
    except (ValueError, KeyError, OSError, metamorphic_log.VerifyError) as fault:
        sys.exit(f"growth: {fault}")

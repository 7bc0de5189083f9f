"""Checks a COSE Receipt (RFC 9942) of a leaf with scitt-cose, which Guankou's authors did not write.

    receipt.py RECEIPT LEAF VKEY [ISSUER]

RECEIPT is the receipt, LEAF the bytes of the leaf, VKEY the key of the log (name+hash+base64), taken
from somewhere else than the receipt. ISSUER is what the receipt must say of itself; without it, the
name of the key. Exit 0: it holds. Exit 1: the reason is on standard error.

    pip install scitt-cose==0.5.0 cryptography
"""

import base64
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scitt_cose.receipt import verify_receipt


def main(receipt_path, leaf_path, vkey, issuer=None):
    name, _, encoded = vkey.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if raw[0] != 1:
        return "the key is not Ed25519"
    pem = Ed25519PublicKey.from_public_bytes(raw[1:]).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with open(receipt_path, "rb") as receipt, open(leaf_path, "rb") as leaf:
        found = verify_receipt(
            receipt.read(), leaf_entry_hex=leaf.read().hex(), log_public_key_pem=pem
        )
    if not found.ok:
        return "; ".join(found.errors)
    if found.issuer != (issuer or name):
        return f"the receipt is of {found.issuer}, not of {issuer or name}"
    print(f"{found.issuer}: {found.subject}: leaf {found.leaf_index} of {found.tree_size}, root {found.root}")
    return None


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: receipt.py RECEIPT LEAF VKEY [ISSUER]")
    reason = main(*sys.argv[1:])
    if reason:
        sys.exit(f"receipt: {reason}")

"""Checks a C2SP tlog-proof of a leaf against a C2SP tlog-policy. Notes, checkpoints, cosignatures and
the Merkle path are checked by aics-tlog, which Guankou's authors did not write; only the two line
formats around them are read here.

    tlog_proof.py PROOF LEAF POLICY

Exit 0: it holds. Exit 1: the reason is on standard error.

    pip install aics-tlog==0.2.1    (Python 3.12 or later)
"""

import base64
import sys

from aics_tlog import checkpoint as checkpoints
from aics_tlog import cosign, hashing, note, tree


def read_policy(text):
    """Keys of logs, keys of witnesses by name, groups as (threshold, members), and the quorum."""
    logs, witnesses, groups, quorum = [], {}, {}, None
    for line in text.split("\n"):
        match line.split():
            case []:
                pass
            case [first, *_] if first.startswith("#"):
                pass
            case ["log", key, *_]:
                logs.append(note.parse_vkey(key))
            case ["witness", name, key, *_]:
                witnesses[name] = note.parse_vkey(key)
            case ["group", name, threshold, *members]:
                count = {"all": len(members), "any": 1}.get(threshold) or int(threshold)
                groups[name] = (count, members)
            case ["quorum", name]:
                quorum = name
            case _:
                raise ValueError(f"policy line {line!r}")
    if quorum is None:
        raise ValueError("the policy has no quorum")
    return logs, witnesses, groups, quorum


def reached(name, groups, cosigned):
    if name == "none" or name in cosigned:
        return True
    if name not in groups:
        return False
    count, members = groups[name]
    return sum(reached(member, groups, cosigned) for member in members) >= count


def read_proof(text):
    head, separator, signed = text.partition("\n\n")
    lines = head.split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1" or not separator:
        raise ValueError("this is no tlog-proof@v1")
    if lines[0].startswith("extra "):
        lines.pop(0)
    label, index = lines.pop(0).split(" ")
    if label != "index":
        raise ValueError("the index is missing")
    return int(index), [base64.b64decode(line, validate=True) for line in lines], signed


def cosigned_by(signed, head, witnesses):
    """Names of the witnesses with a good line; a bad line of a known witness spoils the note."""
    names = set()
    for name, key in witnesses.items():
        for line in signed.signatures:
            if (line.name, line.key_id) != (key.name, key.key_id):
                continue
            if not cosign.verify_cosignature(
                line.signature, key.name, key.public_key, head.origin, head.size, head.root,
                head.extension_lines,
            ):
                raise ValueError(f"the cosignature of {name} does not fit the checkpoint")
            names.add(name)
    return names


def main(proof_path, leaf_path, policy_path):
    with open(policy_path, encoding="utf-8") as policy:
        logs, witnesses, groups, quorum = read_policy(policy.read())
    with open(proof_path, encoding="utf-8", newline="") as proof:
        index, path, text = read_proof(proof.read())
    with open(leaf_path, "rb") as leaf:
        leaf_hash = hashing.leaf_hash(leaf.read())
    head, signed = checkpoints.checkpoint_from_note(text)
    if not note.verify_note(signed, [key for key in logs if key.name == head.origin]):
        raise ValueError(f"no known log signed the checkpoint of {head.origin}")
    cosigned = cosigned_by(signed, head, witnesses)
    if not reached(quorum, groups, cosigned):
        raise ValueError(f"the quorum {quorum} is not reached: {sorted(cosigned)}")
    if not tree.verify_inclusion(leaf_hash, index, head.size, path, head.root):
        raise ValueError(f"the leaf is not at index {index} of the signed tree")
    print(f"{head.origin}: leaf {index} of {head.size}, cosigned by {', '.join(sorted(cosigned))}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: tlog_proof.py PROOF LEAF POLICY")
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as fault:
        sys.exit(f"tlog_proof: {fault}")

"""Makes the vectors of docs/formats/audit-log.md, version 1, from the text of that document.

It imports nothing of the audit room: hashes, trees, notes and JSON are written out a second
time here, slowly and plainly, so that the vectors can disagree with the code. Run once; the
files beside it are the promise, and they do not change within a version.
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
ID = "01k8z3m6q7e8r9t0v1w2x3y4z5"
KEY = bytes(range(32))
SEED = bytes(range(32, 64))
WITNESS_SEED = bytes(range(64, 96))
NEXT_SEED = bytes(range(96, 128))
ORIGIN = "log.example/yinyom"
WITNESS = "witness.example/w1"


def sha(data):
    return hashlib.sha256(data).digest()


def tree(leaves):
    """MTH of RFC 6962 section 2.1, by its recursive definition."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\0" + leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha(b"\1" + tree(leaves[:k]) + tree(leaves[k:]))


def canonical(body):
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def rfc3339(us):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def keyed(message):
    return hmac.new(KEY, message, hashlib.sha256).hexdigest()[:32]


def token(epoch):
    return keyed(b"subj|" + epoch.encode())


def digest(field, value):
    def lp(text):
        raw = text.encode()
        return len(raw).to_bytes(4, "big") + raw

    return keyed(b"value|" + lp(field) + lp(value))


def b64(data):
    return base64.b64encode(data).decode()


def key_of(name, seed, kind):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    material = bytes([kind]) + private.public_key().public_bytes_raw()
    key_id = sha(name.encode() + b"\n" + material)[:4]
    return private, key_id, f"{name}+{key_id.hex()}+{b64(material)}"


def checkpoint(entries, *, cosigned_at=None):
    private, key_id, _ = key_of(ORIGIN, SEED, 1)
    body = f"{ORIGIN}\n{len(entries)}\n{b64(tree(entries))}\n"
    note = f"{body}\n— {ORIGIN} {b64(key_id + private.sign(body.encode()))}\n"
    if cosigned_at is not None:
        private, key_id, _ = key_of(WITNESS, WITNESS_SEED, 4)
        signature = private.sign(f"cosignature/v1\ntime {cosigned_at}\n{body}".encode())
        stamped = key_id + cosigned_at.to_bytes(8, "big") + signature
        note += f"— {WITNESS} {b64(stamped)}\n"
    return note


def overlap(entries):
    """The event by which the next key follows the first, and the checkpoint that both sign."""
    old, new = key_of(ORIGIN, SEED, 1), key_of(ORIGIN, NEXT_SEED, 1)
    event = {
        "id": f"evt_{ID[:-1]}8",
        "ts": 1_795_489_202_123_456,
        "nonce": "77" * 16,
        "actor": {"id": f"stf_{ID}", "role": "system", "via": "cli"},
        "action": "audit.key_rotated",
        "outcome": "ok",
        "decision": "allow",
        "before": {"log_key": sha(old[2].encode()).hex()[:32]},
        "resource": "sha256:" + sha(new[2].encode()).hex(),
    }
    entry = canonical(body(event)).encode()
    leaves = [*entries, entry]
    text = f"{ORIGIN}\n{len(leaves)}\n{b64(tree(leaves))}\n"
    lines = [
        f"\u2014 {ORIGIN} {b64(key_id + private.sign(text.encode()))}\n"
        for private, key_id, _ in (old, new)
    ]
    return {
        "next_seed": NEXT_SEED.hex(),
        "next_vkey": new[2],
        "rotation": entry.decode(),
        "overlap": text + "\n" + "".join(lines),
    }


def events():
    read = 1_795_489_200_123_456
    least = {
        "id": f"evt_{ID}",
        "ts": 0,
        "nonce": "00" * 16,
        "actor": {"id": "system", "role": "system", "via": "worker"},
        "action": "log.started",
        "outcome": "ok",
    }
    view = {
        "id": f"evt_{ID[:-1]}6",
        "ts": read,
        "nonce": "000102030405060708090a0b0c0d0e0f",
        "actor": {"id": f"cli_{ID}", "role": "app:crm", "via": "api"},
        "action": "member.view",
        "outcome": "ok",
        "purpose": "marketing",
        "channel": "sms",
        "legal_basis": "consent",
        "resource": "member/view",
        "subject": {"token": token("2026-11"), "epoch": "2026-11"},
        "fields": ["birth_date", "given_name", "phone"],
        "decision": "allow",
        "reason": "ok",
        "policy": "sha256:" + "ab" * 32,
        "request_id": f"req_{ID}",
        "count": 1,
    }
    change = {
        "id": f"evt_{ID[:-1]}7",
        "ts": read + 1_000_000,
        "nonce": "ff" * 16,
        "actor": {"id": "self", "role": "member", "via": "portal"},
        "action": "member.rectified",
        "outcome": "partial",
        "subject": {"token": token("2026-11"), "epoch": "2026-11"},
        "fields": ["phone"],
        "before": {"phone": digest("phone", "+66812345678")},
        "after": {"phone": digest("phone", "+66898765432")},
        "detail_ref": "sha256:" + "cd" * 32,
    }
    return [least, view, change]


def path_to(place, leaves):
    """PATH of RFC 6962 section 2.1.1, by its recursive definition."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if place < k:
        return [*path_to(place, leaves[:k]), tree(leaves[k:])]
    return [*path_to(place - k, leaves[k:]), tree(leaves[:k])]


def manifest(disclosed):
    """The rows of section 2, one below the other, and the path of each."""
    fields = sorted({name for names in disclosed.values() for name in names})
    digits = max(1, (len(fields) + 3) // 4)
    rows = []
    for member in sorted(disclosed):
        code = sum(2**at for at, name in enumerate(fields) if name in disclosed[member])
        rows.append(f"{member} {code:0{digits}x}".encode())
    return {
        "disclosed": disclosed,
        "fields": fields,
        "file": b"".join(row + b"\n" for row in rows).decode(),
        "manifest": {"rows": len(rows), "root": tree(rows).hex()},
        "paths": [[each.hex() for each in path_to(place, rows)] for place in range(len(rows))],
    }


def manifests():
    members = [hashlib.sha256(str(at).encode()).hexdigest()[:32] for at in range(7)]
    five = ["birth_date", "email", "given_name", "phone", "postcode"]
    return [
        manifest({members[0]: ["phone"]}),
        manifest({members[0]: []}),
        manifest({member: five[: at % 6] for at, member in enumerate(members)}),
    ]


def body(event):
    return {**event, "v": 1, "ts": rfc3339(event["ts"])}


def write(name, value):
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (HERE / f"{name}.json").write_text(text, "utf-8")


def main():
    entries = [canonical(body(event)).encode() for event in events()]
    write(
        "events",
        [
            {"event": event, "bytes": entry.decode(), "leaf_hash": sha(b"\0" + entry).hex()}
            for event, entry in zip(events(), entries, strict=True)
        ],
    )
    months = {"1970-01": 0, "2024-02": 1_709_251_199_999_999, "2026-11": 1_795_489_200_123_456}
    values = [("phone", "+66812345678"), ("given_name", "สมหญิง"), ("a", "bc"), ("ab", "c")]
    write(
        "pseudonyms",
        {
            "key": KEY.hex(),
            "tokens": [
                {"when_us": us, "epoch": epoch, "token": token(epoch)}
                for epoch, us in months.items()
            ],
            "digests": [
                {"field": field, "value": value, "digest": digest(field, value)}
                for field, value in values
            ],
        },
    )
    sizes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 256, 257, 511, 512, 513, 70_000]
    leaves = [str(index).encode() for index in range(max(sizes))]
    write(
        "trees",
        {
            "entries": "entry i is the decimal text of i",
            "roots": {str(size): tree(leaves[:size]).hex() for size in sizes},
            "paths": [
                {"level": 0, "n": 0, "width": 256, "path": "tile/0/000"},
                {"level": 0, "n": 273, "width": 112, "path": "tile/0/273.p/112"},
                {"level": 1, "n": 1_234_067, "width": 256, "path": "tile/1/x001/x234/067"},
                {"level": 63, "n": 1000, "width": 1, "path": "tile/63/x001/000.p/1"},
                {"level": "entries", "n": 999, "width": 255, "path": "tile/entries/999.p/255"},
            ],
        },
    )
    write(
        "notes",
        {
            "origin": ORIGIN,
            "seed": SEED.hex(),
            "vkey": key_of(ORIGIN, SEED, 1)[2],
            "witness_vkey": key_of(WITNESS, WITNESS_SEED, 4)[2],
            "empty": checkpoint([]),
            "three": checkpoint(entries),
            "three_cosigned": checkpoint(entries, cosigned_at=1_795_489_203),
            **overlap(entries),
        },
    )
    write("manifests", manifests())
    files = {
        "checkpoint": checkpoint(entries).encode(),
        "tile/0/000.p/3": b"".join(sha(b"\0" + entry) for entry in entries),
        "tile/entries/000.p/3": b"".join(len(e).to_bytes(2, "big") + e for e in entries),
        "events.ndjson": b"".join(
            b'{"index":%d,"event":%b}\n' % pair for pair in enumerate(entries)
        ),
    }
    for name, data in files.items():
        path = HERE / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()

"""Makes the vectors of docs/formats/keys.md and cell.md, and opens a registry, without our code.

What is written here follows the documents and another library, pycryptodome; nothing is
imported from the product, so that a mistake in its code cannot hide in its vectors. Run it to
write the files again; every later version must read what stands in them. Given a data directory
and the id of a member, it opens that member's cells: `make.py DATA_DIR mem_…`.
"""

import base64
import hashlib
import hmac
import json
import sqlite3
import sys
import unicodedata
from pathlib import Path

from Crypto.Cipher import AES
from Crypto.Protocol.KDF import scrypt

HERE = Path(__file__).parent
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


# --- reading, thirty lines of it ------------------------------------------------------


def lp(text):
    return len(text.encode()).to_bytes(2, "big") + text.encode()


def u32(number):
    return number.to_bytes(4, "big")


def id_bytes(identifier):
    value = 0
    for letter in identifier.rpartition("_")[2]:
        value = value * 32 + LETTERS.index(letter)
    return value.to_bytes(16, "big")


def unwrap(key, wrapped, context):
    cipher = AES.new(key, AES.MODE_GCM, nonce=wrapped[:12])
    cipher.update(context)
    return cipher.decrypt_and_verify(wrapped[12:-16], wrapped[-16:])


def hkdf(material, info):
    """HKDF-SHA-256 without a salt, one block of output (RFC 5869)."""
    extracted = hmac.new(bytes(32), material, "sha256").digest()
    return hkdf_expand(extracted, info)


def hkdf_expand(key, info):
    return hmac.new(key, info + b"\x01", "sha256").digest()


def ring_context(ring_id, tenant, name):
    return b"ring1" + lp(ring_id) + lp(tenant) + lp(name)


def open_ring(document, kms_root, erasable=b""):
    """Open a ring of the KMS `file`: one opening under its root, and everything follows."""
    ring_id, tenant = document["id"], document["tenant"]
    wrapped = base64.b64decode(document["outer"])
    outer_context = wrapped[:4] + ring_context(ring_id, tenant, "outer")
    outer = unwrap(kms_root, wrapped[4:], outer_context)
    wrapping = hkdf(outer + erasable, ring_context(ring_id, tenant, "wrapping"))
    roots = {
        int(version): unwrap(
            wrapping, base64.b64decode(text), ring_context(ring_id, tenant, f"root/{version}")
        )
        for version, text in document["roots"].items()
    }
    newest = roots[max(roots)]
    secrets = {
        name: unwrap(newest, base64.b64decode(text), ring_context(ring_id, tenant, name))
        for name, text in document["secrets"].items()
    }
    return roots, secrets


def open_passphrase_root(document, passphrase, version):
    """Open the root in a file of the KMS `passphrase`."""
    salt, costs = base64.b64decode(document["salt"]), (document["log_n"], 8, 1)
    words = unicodedata.normalize("NFKC", passphrase).encode()
    key = scrypt(words, salt, 32, 1 << costs[0], 8, 1)
    context = b"passphrase1" + u32(version) + bytes(costs) + salt
    return unwrap(key, base64.b64decode(document["root"]), context)


def bucket_context(tenant, bucket, version):
    return b"bucket1" + lp(tenant) + u32(bucket) + u32(version)


def key_context(tenant, owner, kind, version, bucket, bucket_version):
    head = b"key1" + lp(tenant) + id_bytes(owner) + lp(kind)
    return head + u32(version) + u32(bucket) + u32(bucket_version)


def cell_context(suite, tenant, table, field, row, version):
    return b"cell1" + bytes((suite, version)) + lp(tenant) + lp(table) + lp(field) + id_bytes(row)


def open_cell(key, cell, tenant, table, field, row):
    suite, version = cell[0], cell[1]
    assert suite in {1, 0x81}, "AES-256-GCM is the only suite"
    value = unwrap(key, cell[2:], cell_context(suite, tenant, table, field, row, version))
    return (value.rstrip(b"\0")[:-1] if suite == 0x81 else value).decode()


def open_member(data_dir, member):
    """Open every cell of a member from an embedded registry's files."""
    import msgpack

    keys = Path(data_dir) / "keys"
    document = json.loads((keys / "key-ring.json").read_text())
    roots, _ = open_ring(document, bytes.fromhex((keys / "kms-root").read_text().strip()))
    tenant = document["tenant"]
    database = sqlite3.connect(f"file:{Path(data_dir) / 'registry.db'}?mode=ro", uri=True)
    buckets = {
        (bucket, version): unwrap(roots[ring], wrapped, bucket_context(tenant, bucket, version))
        for bucket, version, ring, wrapped in database.execute(
            "SELECT bucket, version, ring_version, wrapped FROM vault_bucket"
        )
    }
    by_kind = {
        kind: unwrap(
            buckets[bucket, bucket_version],
            wrapped,
            key_context(tenant, member, kind, version, bucket, bucket_version),
        )
        for kind, version, bucket, bucket_version, wrapped in database.execute(
            "SELECT kind, version, bucket, bucket_version, wrapped FROM vault_key "
            "WHERE owner_id = ?",
            [member],
        )
    }
    (cells,) = database.execute("SELECT cells FROM member WHERE id = ?", [member]).fetchone()
    database.close()
    return {
        field: open_cell(by_kind["ordinary"], cell, tenant, "member", field, member)
        for field, cell in msgpack.unpackb(cells).items()
    }


# --- writing --------------------------------------------------------------------------


def seeded(label, count):
    """Bytes that look random and are the same at every run."""
    made = b""
    while len(made) < count:
        made += hashlib.sha256(f"yinyom vectors/{label}/{len(made)}".encode()).digest()
    return made[:count]


def wrap(key, secret, context, nonce):
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(context)
    sealed, tag = cipher.encrypt_and_digest(secret)
    return nonce + sealed + tag


def tag_of(secret, kind, version, form):
    key = hkdf_expand(secret, b"index1" + lp(kind) + version.to_bytes(2, "big"))
    return hmac.new(key, form.encode(), "sha256").digest()[:16]


def suppression_of(secret, kind, form):
    return hmac.new(secret, b"suppression1" + lp(kind) + form.encode(), "sha256").digest()[:16]


def suppression_context(tenant, owner, field, kind):
    return b"suppression1" + lp(tenant) + id_bytes(owner) + lp(field) + lp(kind)


def digest_of(secret, label, parts):
    message = lp(label) + b"".join(u32(len(part)) + part for part in parts)
    return hmac.new(secret, message, "sha256").digest()[:16]


RING = "ring_5vtz0d1h7ksm2e8xw4qa9npgr6"
TENANT = "main"
SECRETS = ("index", "suppression", "ledger-tag", "digest", "audit-signing", "receipt-signing")
OWNERS = ("mem_01k8zqv4g3fsd0jt7h2m9xc5ne", "mem_7zzzzzzzzzzzzzzzzzzzzzzzzz", "imp_" + "0" * 26)
VALUES = {
    "given_name": "สมหญิง",
    "family_name": "歐陽",
    "phone": "+66812345678",
    "notes": "",
    "address": "99/1 ถนนสุขุมวิท\nกรุงเทพฯ 10110",
    "phone.2": "+886912345678",
    "gender": "female",
    "language": "zh-Hant",
    "membership_of": "a value of thirty-two bytes, full",
}
PADS = {"gender": 16, "language": 16, "membership_of": 32}
FORMS = {
    "phone": "+66812345678",
    "email": "somying@example.com",
    "line_uid": "U4af4980629f6e2e1c0b8b8a5f9d2c3e1",
    "national_id": "1101700230708",
    "card_no": "Y-0042",
}


def make_ring(erasable=b""):
    kms_root, outer = seeded("kms root", 32), seeded("outer", 32)
    roots = {"1": seeded("root 1", 32), "2": seeded("root 2", 32)}
    secrets = {name: seeded(name, 32) for name in (*SECRETS, "index/2")}
    wrapping = hkdf(outer + erasable, ring_context(RING, TENANT, "wrapping"))
    kms_version = u32(1)
    outer_context = kms_version + ring_context(RING, TENANT, "outer")
    document = {
        "format": "yinyom-key-ring/1",
        "id": RING,
        "tenant": TENANT,
        "kms": "file",
        "outer": base64.b64encode(
            kms_version + wrap(kms_root, outer, outer_context, seeded("nonce outer", 12))
        ).decode(),
        "erasable": 3 if erasable else None,
        "roots": {
            version: base64.b64encode(
                wrap(
                    wrapping,
                    root,
                    ring_context(RING, TENANT, f"root/{version}"),
                    seeded(f"nonce root {version}", 12),
                )
            ).decode()
            for version, root in roots.items()
        },
        "secrets": {
            name: base64.b64encode(
                wrap(
                    roots["2"],
                    secret,
                    ring_context(RING, TENANT, name),
                    seeded(f"nonce {name}", 12),
                )
            ).decode()
            for name, secret in secrets.items()
        },
    }
    return {
        "kms_root": kms_root.hex(),
        "erasable": erasable.hex(),
        "document": document,
        "roots": {version: root.hex() for version, root in roots.items()},
        "secrets": {name: secret.hex() for name, secret in secrets.items()},
    }


def make_passphrase():
    passphrase, log_n = "ห้าคำที่สุ่มมา ½ correct horse", 10
    root, salt, secret = (seeded(f"passphrase {part}", 32) for part in ("root", "salt", "secret"))
    salt = salt[:16]
    key = scrypt(unicodedata.normalize("NFKC", passphrase).encode(), salt, 32, 1 << log_n, 8, 1)
    context = b"passphrase1" + u32(2) + bytes((log_n, 8, 1)) + salt
    outer_context = u32(2) + ring_context(RING, TENANT, "outer")
    return {
        "passphrase": passphrase,
        "version": 2,
        "file": {
            "format": "yinyom-passphrase/1",
            "kdf": "scrypt",
            "log_n": log_n,
            "r": 8,
            "p": 1,
            "salt": base64.b64encode(salt).decode(),
            "root": base64.b64encode(
                wrap(key, root, context, seeded("nonce passphrase root", 12))
            ).decode(),
        },
        "root": root.hex(),
        "wrapped": (
            u32(2) + wrap(root, secret, outer_context, seeded("nonce passphrase", 12))
        ).hex(),
        "context": ring_context(RING, TENANT, "outer").hex(),
        "secret": secret.hex(),
    }


def make_keys(roots):
    made = []
    for at, owner in enumerate(OWNERS):
        bucket, bucket_version = (0, 1) if at else (513, 3)
        kek = seeded(f"bucket {bucket}", 32)
        ring_version = 2 if at else 1
        for kind in ("ordinary", "pseudonym", "fiscal"):
            key = seeded(f"{owner} {kind}", 32)
            version = 1 + at
            made.append(
                {
                    "owner_id": owner,
                    "kind": kind,
                    "version": version,
                    "bucket": bucket,
                    "bucket_version": bucket_version,
                    "ring_version": ring_version,
                    "wrapped_bucket": wrap(
                        bytes.fromhex(roots[str(ring_version)]),
                        kek,
                        bucket_context(TENANT, bucket, bucket_version),
                        seeded(f"nonce bucket {owner}", 12),
                    ).hex(),
                    "wrapped": wrap(
                        kek,
                        key,
                        key_context(TENANT, owner, kind, version, bucket, bucket_version),
                        seeded(f"nonce {owner} {kind}", 12),
                    ).hex(),
                    "key": key.hex(),
                }
            )
    return made


def make_cells():
    made = []
    for owner in OWNERS:
        for version in (1, 255):
            key = seeded(f"{owner} cell key {version}", 32)
            for field, value in VALUES.items():
                nonce = seeded(f"nonce {owner} {version} {field}", 12)
                pad = PADS.get(field, 0)
                suite, content = 1, value.encode()
                if pad:
                    suite, content = 0x81, content + b"\x80"
                    content += bytes(-len(content) % pad)
                context = cell_context(suite, TENANT, "member", field, owner, version)
                made.append(
                    {
                        "key": key.hex(),
                        "key_version": version,
                        "tenant": TENANT,
                        "table": "member",
                        "field": field,
                        "row_id": owner,
                        "nonce": nonce.hex(),
                        "value": value,
                        "pad": pad,
                        "cell": (
                            bytes((suite, version)) + wrap(key, content, context, nonce)
                        ).hex(),
                    }
                )
    return made


def make_tags(secrets):
    index, digest = bytes.fromhex(secrets["index"]), bytes.fromhex(secrets["digest"])
    by_version = {1: index, 2: seeded("index/2", 32), 258: seeded("index/258", 32)}
    suppression, key = bytes.fromhex(secrets["suppression"]), seeded("tag owner key", 32)
    parts = [["cp_x", "123456"], ["", ""], ["M0001", "สมหญิง"]]
    return {
        "index_secrets": {str(version): secret.hex() for version, secret in by_version.items()},
        "tags": [
            {
                "kind": kind,
                "version": version,
                "form": form,
                "tag": tag_of(secret, kind, version, form).hex(),
            }
            for version, secret in by_version.items()
            for kind, form in FORMS.items()
        ],
        "suppression_secret": suppression.hex(),
        "tenant": TENANT,
        "owner_id": OWNERS[0],
        "owner_key": key.hex(),
        "suppressions": [
            {
                "kind": kind,
                "form": form,
                "field": f"{kind}.2",
                "tag": suppression_of(suppression, kind, form).hex(),
                "sealed": (
                    bytes((1,))
                    + wrap(
                        key,
                        suppression_of(suppression, kind, form),
                        suppression_context(TENANT, OWNERS[0], f"{kind}.2", kind),
                        seeded(f"nonce suppression {kind}", 12),
                    )
                ).hex(),
            }
            for kind, form in FORMS.items()
        ],
        "digest_secret": digest.hex(),
        "digests": [
            {
                "label": label,
                "parts": [part.encode().hex() for part in each],
                "digest": digest_of(digest, label, [part.encode() for part in each]).hex(),
            }
            for label in ("contact-code", "import-row")
            for each in parts
        ],
    }


def write(name, vectors):
    text = json.dumps(vectors, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main():
    if len(sys.argv) == 3:
        print(json.dumps(open_member(*sys.argv[1:]), ensure_ascii=False, indent=1))
        return
    ring = make_ring()
    write("ring", ring)
    write("ring-erasable", make_ring(seeded("erasable", 32)))
    write("passphrase", make_passphrase())
    write("keys", {"tenant": TENANT, "ring": RING, "keys": make_keys(ring["roots"])})
    write("cells", make_cells())
    write("tags", make_tags(ring["secrets"]))


if __name__ == "__main__":
    main()

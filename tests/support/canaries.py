"""People who must not be found: unmistakable values, and a hunter that knows every spelling.

A canary's values go through every door; what is left is then searched as it is written, in other
encodings, and as a plain hash.
"""

import base64
import hashlib
import io
import re
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from itertools import product
from urllib.parse import quote

import structlog

from kernel.logging import configure_logging

THAI, CHINESE, LATIN = "กานารีทองคำ", "鳥籠金絲雀", "Zqxcanary"


def thai_id(at):
    """A Thai identity number with a true check digit (mod 11 over weights 13 to 2)."""
    head = f"19988776{at:04}"
    total = sum(int(digit) * weight for digit, weight in zip(head, range(13, 1, -1), strict=True))
    return head + str((11 - total % 11) % 10)


def canary(at):
    """A person no file would hold by chance."""
    names = (
        (f"{THAI}{'กขคงจ'[at % 5]}", f"{THAI}สกุล"),
        (f"{CHINESE}{'甲乙丙丁戊'[at % 5]}", CHINESE),
        (f"{LATIN}{'abcde'[at % 5]}", f"Mac{LATIN}"),
    )[at % 3]
    return {
        "given_name": names[0],
        "family_name": names[1],
        "phone": f"087-777-0{at:03}",
        "email": f"zqxcanary.{at}@birdcage.example",
        "national_id": thai_id(at),
        "line_uid": f"Uc0ffee0ddba11{at:019x}",
        "card_no": f"ZQX-CARD-{at:04}",
        "birth_date": f"1923-{at % 12 + 1:02}-{at % 28 + 1:02}",
        "address": f"{at} ซอย{THAI} {CHINESE}路 {LATIN} street",
        "notes": f"{LATIN} likes {THAI}",
    }


MARKS = (
    *(THAI, CHINESE, LATIN, LATIN.lower(), LATIN.upper()),
    unicodedata.normalize("NFKC", THAI),  # as a name is kept: its last vowel in two letters
    *("zqxcanary.", "birdcage.example", "c0ffee0ddba11", "C0FFEE0DDBA11", "ZQX-CARD-", "zqx-card-"),
)
NUMBERS = re.compile(
    # a telephone number, with and without dashes; a moment in microseconds may end like one
    rb"(?<![0-9])(?:\+?66|0)-?87-?777-?0-?[0-2][0-9][0-9]"
    rb"|1-?9988-?776\d{2}-?\d{2}-?\d"  # an identity number
    rb"|1923-[01][0-9]-[0-3][0-9]"  # a birthday
    rb"|[0-3][0-9]/[01][0-9]/(?:1923|2466)"
)
HEX_NUMBERS = re.compile(
    rb"(?:2b3636|3636|30)3837373737303[0-2]3[0-9]3[0-9]"
    rb"|313939383837373[67](?:3[0-9]){4}"
    rb"|313932332d3[01]3[0-9]2d3[0-3]3[0-9]",
    re.IGNORECASE,
)


def spellings(mark):
    """The mark as it would look in one encoding or another."""
    plain = mark.encode()
    yield plain
    yield mark.encode("utf-16-le")
    yield mark.encode("utf-16-be")
    yield quote(mark).encode()
    yield quote(mark).lower().encode()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield mark.encode("unicode_escape")
    for shift in range(3):  # base64 has three ways to begin
        yield base64.b64encode(b"x" * shift + plain)[(0, 4, 4)[shift] : -4]
        yield base64.urlsafe_b64encode(b"x" * shift + plain)[(0, 4, 4)[shift] : -4]


def normal_forms(world, count):
    """Every value as the registry keeps and compares it."""
    from datetime import UTC, date, datetime

    from members.normalise import Formats, index_form
    from members.registration import prepare

    formats = Formats("TH", "iso", "TH", datetime.now(UTC).date())  # noqa: TID251 (only its year)
    assert isinstance(formats.today, date)
    for at in range(count):
        values = canary(at)
        yield from values.values()
        for field, value in prepare(world.runtime.pack, values, formats).values.items():
            yield value
            if world.runtime.pack.fields[field].index is not None:
                yield index_form(world.runtime.pack.fields[field].index.value, value)


class Hunter:
    """Looks for every canary in every spelling."""

    def __init__(self, forms):
        forms = set(forms)
        self.needles = {
            spelling: mark for mark in MARKS for spelling in spellings(mark) if len(spelling) > 6
        }
        self.digests = {}
        self.raw = {}
        for form, name in product(forms, ("md5", "sha1", "sha256")):
            digest = hashlib.new(name, form.encode())
            self.digests[digest.hexdigest().encode()] = form
            self.digests[base64.b64encode(digest.digest())] = form
            self.raw[digest.digest()] = form
        self.beginnings = {digest[:4] for digest in self.raw}

    def hunt(self, data):
        """Every canary in it."""
        found = [mark for needle, mark in self.needles.items() if needle in data]
        found += [match.group().decode() for match in NUMBERS.finditer(data)]
        found += [match.group().decode() for match in HEX_NUMBERS.finditer(data)]
        found += self._raw_digests(data)
        for run in re.finditer(rb"[0-9a-f]{32,}", data.lower()):
            found += self._windows(run.group(), (32, 40, 64))
        for run in re.finditer(rb"[A-Za-z0-9+/]{20,}={0,2}", data):
            found += self._windows(run.group(), (24, 28, 44))
        return found

    def _raw_digests(self, data):
        """Digests that lie there as they are; one pass, however many they are."""
        for start in range(len(data) - 15):
            if data[start : start + 4] in self.beginnings:
                for size in (16, 20, 32):
                    form = self.raw.get(data[start : start + size])
                    if form is not None:
                        yield form

    def _windows(self, run, sizes):
        for size in sizes:
            for start in range(len(run) - size + 1):
                form = self.digests.get(run[start : start + size])
                if form is not None:
                    yield form


@contextmanager
def watched_log():
    """All that the process writes to its log, at the most talkative level."""
    written, genuine = io.BytesIO(), sys.stderr
    sys.stderr = kept = io.TextIOWrapper(written, write_through=True)
    configure_logging("debug", written)
    try:
        yield written
    finally:
        sys.stderr = genuine
        kept.detach()
        structlog.reset_defaults()


def remains(world, server):
    """The database as a thief would carry it off."""
    settings = world.settings
    if settings.on_postgres:
        dump = subprocess.run(
            [server.binaries / "pg_dump", settings.database.url], check=True, capture_output=True
        )
        yield "pg_dump", dump.stdout
        return
    for suffix in ("", "-wal", "-shm"):
        file = settings.database_file.with_name(settings.database_file.name + suffix)
        if file.exists():
            yield file.name, file.read_bytes()

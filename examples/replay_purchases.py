r"""Post a till's old purchases: `POST /v1/purchases` in batches, mapped onto members it can find.

Shows what an internal app does with a file of purchases and a file of members: look each member
up by phone (the number travels in a body, never in an address), then post the purchases under
the ids that this app knows. It can be run again: a purchase that is known is only counted.

    python examples/replay_purchases.py PURCHASES.csv --members MEMBERS.csv --phone-column NAME \
        --base-url http://127.0.0.1:8420 --credentials demo-credentials.json --client till

PURCHASES.csv has the columns customer, date (ISO), items, amount. Customers and members are
matched in the order in which they first appear; when there are more customers than members,
several customers fall on one member.
"""

import argparse
import base64
import csv
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH = 1_000


class App:
    """One internal app with its token."""

    def __init__(self, base_url: str, client: dict[str, Any]) -> None:
        self._base_url = base_url
        pair = f"{client['client_id']}:{client['client_secret']}".encode()
        basic = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        form = b"grant_type=client_credentials"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self._send("/oauth/token", form, {**basic, **kind})
        self._token = {"Authorization": f"Bearer {answer['access_token']}"}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post JSON and give the JSON that comes back."""
        kind = {"Content-Type": "application/json"}
        return self._send(path, json.dumps(body).encode(), {**self._token, **kind})

    def _send(self, path: str, data: bytes, headers: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(self._base_url + path, data, headers)  # noqa: S310 (the operator's own address)
        with urllib.request.urlopen(request) as answer:  # noqa: S310 (see above)
            result: dict[str, Any] = json.loads(answer.read())
        return result


def members_of(app: App, path: Path, column: str, region: str) -> Iterator[str]:
    """Give the ids of members whose number is in the file and known to the registry."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            body = {"kind": "phone", "value": row.get(column) or "", "region": region,
                    "purpose": "membership"}  # fmt: skip
            try:
                yield app.post("/v1/members:lookup", body)["id"]
            except urllib.error.HTTPError as error:
                if error.code not in {404, 422}:  # not known, or no number at all
                    raise


def purchases_of(path: Path, members: list[str]) -> Iterator[dict[str, Any]]:
    """Give the purchases of a file, each with the member its customer was matched with."""
    matched: dict[str, str] = {}
    seen: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            customer = row["customer"]
            member = matched.setdefault(customer, members[len(matched) % len(members)])
            bought = f"{customer}-{row['date']}"
            seen[bought] += 1
            yield {
                "member": member,
                "at": f"{row['date']}T12:00:00Z",
                "amount": row["amount"],
                "currency": "USD",
                "items": int(row["items"]),
                "reference": f"{bought}-{seen[bought]}",
            }


def main() -> int:
    """Replay the file and print what became of each purchase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("purchases", type=Path)
    parser.add_argument("--members", type=Path, required=True)
    parser.add_argument("--phone-column", required=True)
    parser.add_argument("--region", default="TH")
    parser.add_argument("--credentials", type=Path, required=True)
    parser.add_argument("--base-url", default="http://127.0.0.1:8420")
    parser.add_argument("--client", default="till")
    asked = parser.parse_args()
    clients = json.loads(asked.credentials.read_text(encoding="utf-8"))["clients"]
    app = App(asked.base_url, clients[asked.client])
    found = members_of(app, asked.members, asked.phone_column, asked.region)
    members = list(dict.fromkeys(found))
    if not members:
        print("none of the members is known to the registry", file=sys.stderr)
        return 1
    purchases = list(purchases_of(asked.purchases, members))
    outcomes: Counter[str] = Counter()
    for start in range(0, len(purchases), BATCH):
        answer = app.post("/v1/purchases", {"purchases": purchases[start : start + BATCH]})
        outcomes.update({name: answer[name] for name in ("accepted", "repeated", "rejected")})
        if sys.stdout.isatty():
            print(f"\r{min(start + BATCH, len(purchases))} of {len(purchases)}", end="", flush=True)
    print(f"\r{len(members)} members · " + " · ".join(f"{n} {s}" for s, n in outcomes.items()))
    return 0 if outcomes.total() == len(purchases) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The main job as one exchange, word for word as SURFACE prints it, against a served registry."""

import re

ID = r"[0-9a-z]{26}"


def test_every_kind_of_identifier_finds_its_member(registry):
    written = {
        "phone": "089-111-2222",
        "email": "Somying@Example.com",
        "line_uid": "U4af4980629c1d3b1a2b3c4d5e6f70819",
        "national_id": "1-1017-00230-70-8",
        "card_no": "A-17 0042",
    }
    body = registry.crm.registration(**written)
    body["formats"]["id_country"] = "TH"
    made = registry.crm.post("/v1/members", body)
    assert made.status_code == 201, made.text
    for kind, value in written.items():
        asked = {"kind": kind, "value": value, "region": "TH", "purpose": "membership"}
        found = registry.crm.post("/v1/members:lookup", asked)
        assert (found.status_code, found.json()) == (200, {"id": made.json()["id"]}), kind
        assert registry.till.post("/v1/members:lookup", asked).json()["id"] != made.json()["id"]


def test_a_notice_is_the_words_and_their_hash(registry):
    answer = registry.http.get("/v1/notices/marketing?lang=th")
    assert answer.status_code == 200
    notice = answer.json()
    assert list(notice) == ["key", "version", "lang", "text", "revision", "effective_from"]
    assert (notice["key"], notice["lang"]) == ("marketing", "th")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", notice["revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", notice["effective_from"])
    assert "โปรโมชัน" in notice["text"]
    revisions = {
        registry.http.get(f"/v1/notices/marketing?lang={lang}").json()["revision"]
        for lang in ("th", "en", "zh-Hant")
    }
    assert len(revisions) == 3, "each language is its own wording"


def test_the_main_job_answers_word_for_word(registry):
    crm, sender = registry.crm, registry.sender
    notice = crm.http.get("/v1/notices/marketing", params={"lang": "th"}).json()

    registered = crm.post("/v1/members", crm.registration(crm.decision()))
    assert registered.status_code == 201
    member = registered.json()
    assert member.keys() == {"id", "consents", "contact_points", "audit_id", "duplicates"}
    assert re.fullmatch(f"sub_{ID}", member["id"])
    (consent,) = member["consents"]
    assert re.fullmatch(f"con_{ID}", consent["id"])
    assert consent == {"id": consent["id"], "receipt": f"/v1/consents/{consent['id']}/receipt"}
    (point,) = member["contact_points"]
    assert re.fullmatch(f"cp_{ID}", point["id"])
    assert point == {"id": point["id"], "kind": "phone", "verified": False}
    assert re.fullmatch(f"evt_{ID}", member["audit_id"])

    verified = crm.post(
        f"/v1/members/{member['id']}/contact-points/{point['id']}:verify",
        {"code": registry.code_for(point["id"])},
    )
    assert verified.status_code == 200

    asked = "purpose=marketing&channel=sms&fields=given_name,phone,birth_date"
    read = crm.get(f"/v1/members/{member['id']}/view?{asked}")
    assert read.status_code == 200
    seen = read.json()
    assert re.fullmatch(f"evt_{ID}", seen.pop("audit_id"))
    assert seen == {
        "id": member["id"],
        "purpose": "marketing",
        "channel": "sms",
        "data": {"given_name": "สมหญิง", "phone": "+66812345678"},
        "omitted": {"birth_date": "not_in_purpose"},
        "basis": {
            "type": "consent",
            "id": consent["id"],
            "notice_revision": notice["revision"],
        },
    }

    introduced = crm.post(f"/v1/members/{member['id']}:introduce", {"to": sender.id})
    assert introduced.status_code == 200
    known = introduced.json()
    assert known == {"to": sender.id, "id": known["id"]}
    assert re.fullmatch(f"sub_{ID}", known["id"])
    assert known["id"] != member["id"]
    assert sender.get(f"/v1/members/{known['id']}/view?{asked}").json()["data"] == seen["data"]

    withdrawn = crm.post(
        f"/v1/members/{member['id']}/consents:withdraw", {"purpose": "marketing", "channel": "sms"}
    )
    assert withdrawn.status_code == 200

    for client, called in ((crm, member["id"]), (sender, known["id"])):
        refused = client.get(f"/v1/members/{called}/view?{asked}")
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert problem["type"].endswith("/no-lawful-basis")
        assert problem["reason"] == "consent_withdrawn"
        assert re.fullmatch(f"evt_{ID}", problem["audit_id"])
        assert problem["status"] == 403

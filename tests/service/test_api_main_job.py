"""The main job as one exchange, word for word as SURFACE prints it, against a served registry."""

import re

ID = r"[0-9a-z]{26}"


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

import pytest

from policies import Finding, PackError, check, load_pack
from policies.layers import canonical_text, text_hash

TEXTS = '{ th = "ก", en = "a", zh-Hant = "甲" }'
FIELD = f"""
[fields.shoe_size]
kind = "integer"
category = "demographic"
sensitive = false
storage = "sealed"
retention_class = "ordinary"
mask = "full"
title = {TEXTS}
"""
PURPOSE = f"""
[purposes.parking]
dpv = "ServiceProvision"
lawful_basis = {{ TH = "contract", EU = "contract", TW = "contract", default = "contract" }}
fields = ["given_name"]
channels = []
retention_class = "ordinary"
necessary_for_service = false
notice = "membership"
title = {TEXTS}
summary = {TEXTS}
recipients = {TEXTS}
withdrawal_consequence = {TEXTS}
"""

BROKEN_TOML = {
    "not toml at all": ("purposes.toml", "[purposes", "purposes.toml", ""),
    "unknown key": (
        "purposes.toml",
        "[purposes.marketing]\nlawfull_basis = 1",
        "purposes.toml",
        "purposes.marketing.lawfull_basis",
    ),
    "unknown table": ("fields.toml", "[feilds.x]\ny = 1", "fields.toml", "feilds"),
    "wrong type": (
        "purposes.toml",
        '[purposes.marketing]\nnecessary_for_service = "no"',
        "purposes.toml",
        "purposes.marketing.necessary_for_service",
    ),
    "unknown field in a purpose": (
        "purposes.toml",
        '[purposes.analytics]\nfields = ["blood_group"]',
        "purposes.toml",
        "purposes.analytics.fields",
    ),
    "empty purpose": (
        "purposes.toml",
        "[purposes.analytics]\nfields = []",
        "purposes.toml",
        "purposes.analytics.fields",
    ),
    "unknown channel": (
        "purposes.toml",
        '[purposes.marketing]\nchannels = ["fax"]\n[purposes.marketing.channel_fields]\nfax = []',
        "purposes.toml",
        "purposes.marketing.channels",
    ),
    "channel without its fields": (
        "purposes.toml",
        PURPOSE.replace("channels = []", 'channels = ["sms"]'),
        "purposes.toml",
        "purposes.parking.channel_fields.sms",
    ),
    "channel that cannot reach the member": (
        "purposes.toml",
        '[purposes.marketing]\nfields = ["given_name", "email", "line_uid"]\nchannel_fields.sms = []',
        "purposes.toml",
        "purposes.marketing.channel_fields.sms",
    ),
    "contact field of another channel": (
        "purposes.toml",
        '[purposes.marketing.channel_fields]\nsms = ["phone", "email"]',
        "purposes.toml",
        "purposes.marketing.channel_fields.sms",
    ),
    "channel field outside the purpose": (
        "purposes.toml",
        '[purposes.marketing.channel_fields]\nsms = ["phone", "birth_date"]',
        "purposes.toml",
        "purposes.marketing.channel_fields.sms",
    ),
    "channel whose contact field is none": (
        "purposes.toml",
        '[channels.sms]\ncontact_field = "birth_date"',
        "purposes.toml",
        "channels.sms.contact_field",
    ),
    "no basis in a jurisdiction": (
        "purposes.toml",
        PURPOSE.replace('EU = "contract", ', ""),
        "purposes.toml",
        "purposes.parking.lawful_basis.EU",
    ),
    "no default basis": (
        "purposes.toml",
        PURPOSE.replace(', default = "contract"', ""),
        "purposes.toml",
        "purposes.parking.lawful_basis.default",
    ),
    "a basis the jurisdiction does not know": (
        "purposes.toml",
        '[purposes.analytics.lawful_basis]\nEU = "archive_research_statistics"',
        "purposes.toml",
        "purposes.analytics.lawful_basis.EU",
    ),
    "a basis nobody knows": (
        "purposes.toml",
        '[purposes.analytics.lawful_basis]\nTH = "because"',
        "purposes.toml",
        "purposes.analytics.lawful_basis.TH",
    ),
    "a jurisdiction nobody wrote": (
        "purposes.toml",
        '[purposes.analytics.lawful_basis]\nUS = "consent"',
        "purposes.toml",
        "purposes.analytics.lawful_basis.US",
    ),
    "service made conditional on consent": (
        "purposes.toml",
        "[purposes.marketing]\nnecessary_for_service = true",
        "purposes.toml",
        "purposes.marketing.necessary_for_service",
    ),
    "legitimate interest without its assessment": (
        "purposes.toml",
        '[purposes.analytics.lawful_basis]\nTH = "legitimate_interest"',
        "purposes.toml",
        "purposes.analytics.assessment",
    ),
    "withdrawal consequence missing in a language": (
        "purposes.toml",
        PURPOSE.replace(
            f"withdrawal_consequence = {TEXTS}", 'withdrawal_consequence = { th = "ก", en = "a" }'
        ),
        "purposes.toml",
        "purposes.parking.withdrawal_consequence.zh-Hant",
    ),
    "text left empty": (
        "purposes.toml",
        '[purposes.marketing.title]\nth = " "',
        "purposes.toml",
        "purposes.marketing.title.th",
    ),
    "purpose without a published notice": (
        "purposes.toml",
        '[purposes.marketing]\nnotice = "whisper"',
        "purposes.toml",
        "purposes.marketing.notice",
    ),
    "purpose of an unknown retention class": (
        "purposes.toml",
        '[purposes.marketing]\nretention_class = "forever"',
        "purposes.toml",
        "purposes.marketing.retention_class",
    ),
    "purpose outside the vocabulary": (
        "purposes.toml",
        '[purposes.marketing]\ndpv = "direct marketing"',
        "purposes.toml",
        "purposes.marketing.dpv",
    ),
    "a repeated field": (
        "purposes.toml",
        '[purposes.analytics]\nfields = ["gender", "gender"]',
        "purposes.toml",
        "purposes.analytics.fields",
    ),
    "a list of other things": (
        "purposes.toml",
        "[purposes.analytics]\nfields = [1]",
        "purposes.toml",
        "purposes.analytics.fields",
    ),
    "fields that are no list": (
        "purposes.toml",
        '[purposes.analytics]\nfields = "gender"',
        "purposes.toml",
        "purposes.analytics.fields",
    ),
    "a purpose without a title": (
        "purposes.toml",
        PURPOSE.replace(f"title = {TEXTS}\n", ""),
        "purposes.toml",
        "purposes.parking.title",
    ),
    "a purpose that is no table": (
        "purposes.toml",
        'purposes.parking = "yes"',
        "purposes.toml",
        "purposes.parking",
    ),
    "a jurisdiction without a calendar": (
        "jurisdictions/XA.toml",
        'code = "XA"',
        "jurisdictions/XA.toml",
        "calendar",
    ),
    "a class without a period": (
        "retention.toml",
        f"[classes.x]\ntitle = {TEXTS}\nends_with_purpose = false\nown_key = true",
        "retention.toml",
        "classes.x.period.TH",
    ),
    "a number written as a truth": (
        "retention.toml",
        "[pseudonym_key]\nv = true",
        "retention.toml",
        "pseudonym_key.v",
    ),
    "a number written as a fraction": (
        "retention.toml",
        "[pseudonym_key]\nv = 1.5",
        "retention.toml",
        "pseudonym_key.v",
    ),
    "a key that is not a name": (
        "purposes.toml",
        PURPOSE.replace("parking", '"Park & Ride"'),
        "purposes.toml",
        "purposes.Park & Ride",
    ),
    "field without a purpose": ("fields.toml", FIELD, "fields.toml", "fields.shoe_size"),
    "unknown category": (
        "fields.toml",
        '[fields.notes]\ncategory = "gossip"',
        "fields.toml",
        "fields.notes.category",
    ),
    "category named like a resource": (
        "fields.toml",
        f"[categories]\nconsent = {TEXTS}",
        "fields.toml",
        "categories.consent",
    ),
    "unknown storage": (
        "fields.toml",
        '[fields.phone]\nstorage = "encrypted"',
        "fields.toml",
        "fields.phone.storage",
    ),
    "personal data in the clear": (
        "fields.toml",
        '[fields.phone]\nstorage = "plain"',
        "fields.toml",
        "fields.phone.storage",
    ),
    "free text in the clear": (
        "fields.toml",
        '[fields.notes]\nstorage = "plain"',
        "fields.toml",
        "fields.notes.storage",
    ),
    "a sealed value shown whole": (
        "fields.toml",
        '[fields.gender]\nmask = "none"',
        "fields.toml",
        "fields.gender.mask",
    ),
    "an index over names": (
        "fields.toml",
        '[fields.given_name]\nindex = "phone"',
        "fields.toml",
        "fields.given_name.index",
    ),
    "an index kind that does not exist": (
        "fields.toml",
        '[fields.given_name]\nindex = "name"',
        "fields.toml",
        "fields.given_name.index",
    ),
    "a hardened index of what is looked up often": (
        "fields.toml",
        "[fields.phone]\nhardened = true",
        "fields.toml",
        "fields.phone.hardened",
    ),
    "a coarse index that does not suit its field": (
        "fields.toml",
        '[fields.birth_date]\ncoarse_index = "last4"',
        "fields.toml",
        "fields.birth_date.coarse_index",
    ),
    "a coarse index over free text": (
        "fields.toml",
        '[fields.notes]\ncoarse_index = "value"',
        "fields.toml",
        "fields.notes.coarse_index",
    ),
    "more partitions than a search could ask": (
        "fields.toml",
        '[fields.birth_date]\ncoarse_index = "month"\npartitions = 1000',
        "fields.toml",
        "fields.birth_date.partitions",
    ),
    "a leak accepted without a reason": (
        "fields.toml",
        '[fields.birth_date]\ncoarse_index = "month"\naccept_leakage = "yes"',
        "fields.toml",
        "fields.birth_date.accept_leakage",
    ),
    "partitions of no index": (
        "fields.toml",
        "[fields.birth_date]\npartitions = 4",
        "fields.toml",
        "fields.birth_date.partitions",
    ),
    "a padding of another size": (
        "fields.toml",
        "[fields.gender]\npad = 24",
        "fields.toml",
        "fields.gender.pad",
    ),
    "a padded plain field": (
        "fields.toml",
        "[fields.tier]\npad = 16",
        "fields.toml",
        "fields.tier.pad",
    ),
    "a group of fields in one cell": (
        "fields.toml",
        '[fields.given_name]\ngroup = "name"',
        "fields.toml",
        "fields.given_name.group",
    ),
    "field of an unknown retention class": (
        "fields.toml",
        '[fields.notes]\nretention_class = "forever"',
        "fields.toml",
        "fields.notes.retention_class",
    ),
    "a sensitive field used by contract": (
        "fields.toml",
        "[fields.notes]\nsensitive = true",
        "purposes.toml",
        "purposes.membership.lawful_basis",
    ),
    "a number without its source": (
        "jurisdictions/TH.toml",
        '[dsar.fax]\nv = 3\nu = "calendar_days"\nst = "in_force"\nev = "memory"',
        "jurisdictions/TH.toml",
        "dsar.fax.src",
    ),
    "a number without its status": (
        "jurisdictions/TH.toml",
        '[dsar.fax]\nv = 3\nu = "calendar_days"\nsrc = "s.1"\nev = "memory"',
        "jurisdictions/TH.toml",
        "dsar.fax.st",
    ),
    "a number without its evidence": (
        "jurisdictions/TH.toml",
        '[dsar.fax]\nv = 3\nu = "calendar_days"\nsrc = "s.1"\nst = "draft"',
        "jurisdictions/TH.toml",
        "dsar.fax.ev",
    ),
    "a number without its unit": (
        "jurisdictions/TH.toml",
        '[dsar.fax]\nv = 3\nsrc = "s.1"\nst = "draft"\nev = "memory"',
        "jurisdictions/TH.toml",
        "dsar.fax.u",
    ),
    "a negative number": (
        "jurisdictions/TH.toml",
        "[dsar.access]\nv = -1",
        "jurisdictions/TH.toml",
        "dsar.access.v",
    ),
    "a date that is none": (
        "jurisdictions/TH.toml",
        '[dsar.access]\nsince = "lately"',
        "jurisdictions/TH.toml",
        "dsar.access.since",
    ),
    "a file named after another code": (
        "jurisdictions/TH.toml",
        'code = "EU"',
        "jurisdictions/TH.toml",
        "code",
    ),
    "tiers that leave a gap below majority": (
        "jurisdictions/TH.toml",
        "[minors.adult_from]\nv = 21",
        "jurisdictions/TH.toml",
        "minors.tiers",
    ),
    "tiers that are not tables": (
        "jurisdictions/EU.toml",
        "[minors]\ntiers = [3]",
        "jurisdictions/EU.toml",
        "minors.tiers",
    ),
    "a minor called an adult": (
        "jurisdictions/EU.toml",
        '[[minors.tiers]]\nv = 15\nu = "years"\nwho = "adult"\nsrc = "s"\nst = "draft"\nev = "memory"',
        "jurisdictions/EU.toml",
        "minors.tiers[0].who",
    ),
    "no lawful bases": (
        "jurisdictions/EU.toml",
        "lawful_bases = []",
        "jurisdictions/EU.toml",
        "lawful_bases",
    ),
    "a period the jurisdiction does not know": (
        "retention.toml",
        '[classes.fiscal.period]\nTH = "accounts"',
        "retention.toml",
        "classes.fiscal.period.TH",
    ),
    "a pseudonym key that outlives the promise": (
        "retention.toml",
        "[pseudonym_key]\nv = 91",
        "retention.toml",
        "pseudonym_key.v",
    ),
    "a pseudonym key counted in months": (
        "retention.toml",
        '[pseudonym_key]\nv = 3\nu = "months"',
        "retention.toml",
        "pseudonym_key.v",
    ),
    "exclusive roles that are no pair": (
        "pack.toml",
        '[[separation.exclusive]]\nroles = ["auditor"]',
        "pack.toml",
        "separation.exclusive[0].roles",
    ),
    "a start of a notice without offset": (
        "notices/marketing/notice.toml",
        "[versions.1]\neffective_from = 2026-01-01T00:00:00",
        "notices/marketing/notice.toml",
        "versions.1.effective_from",
    ),
    "a start of a notice that is no time": (
        "notices/marketing/notice.toml",
        '[versions.1]\neffective_from = "soon"',
        "notices/marketing/notice.toml",
        "versions.1.effective_from",
    ),
    "a published hash rewritten": (
        "notices/marketing/notice.toml",
        f'[versions.1.revisions]\nth = "sha256:{"0" * 64}"',
        "notices/marketing/notice.toml",
        "versions.1.revisions.th",
    ),
    "a version without its words": (
        "notices/marketing/notice.toml",
        "[versions.2]\neffective_from = 2026-06-01T00:00:00+07:00\n[versions.2.revisions]\n",
        "notices/marketing/2.zh-Hant.md",
        "",
    ),
    "a published wording changed": (
        "notices/marketing/1.th.md",
        "# ถ้อยคำอื่น\n",
        "notices/marketing/1.th.md",
        "",
    ),
    "words that belong to no version": (
        "notices/marketing/7.en.md",
        "# Seven\n",
        "notices/marketing/7.en.md",
        "",
    ),
    "a misspelt file": ("purpose.toml", "", "purpose.toml", ""),
    "bytes that are not UTF-8": ("purposes.toml", b"\xff\xfe", "purposes.toml", ""),
    "another access model": ("roles/model.conf", "[matchers]\nm = true\n", "roles/model.conf", ""),
    "a rule of the wrong length": (
        "roles/policy.csv",
        "p, clerk, identity, view, allow",
        "roles/policy.csv",
        "p, clerk, identity, view, allow",
    ),
    "a rule for everybody": (
        "roles/policy.csv",
        "p, *, *, identity, view, *, allow",
        "roles/policy.csv",
        "p, *, *, identity, view, *, allow",
    ),
    "an effect nobody knows": (
        "roles/policy.csv",
        "p, clerk, *, identity, view, *, maybe",
        "roles/policy.csv",
        "p, clerk, *, identity, view, *, maybe",
    ),
    "a resource nobody knows": (
        "roles/policy.csv",
        "p, clerk, *, identify, view, *, allow",
        "roles/policy.csv",
        "p, clerk, *, identify, view, *, allow",
    ),
    "an action nobody knows": (
        "roles/policy.csv",
        "p, clerk, *, identity, peek, *, allow",
        "roles/policy.csv",
        "p, clerk, *, identity, peek, *, allow",
    ),
    "an action of another resource": (
        "roles/policy.csv",
        "p, clerk, *, consent, view, *, allow",
        "roles/policy.csv",
        "p, clerk, *, consent, view, *, allow",
    ),
    "a purpose nobody knows": (
        "roles/policy.csv",
        "p, clerk, *, identity, view, sales, allow",
        "roles/policy.csv",
        "p, clerk, *, identity, view, sales, allow",
    ),
    "a word that is found in every text": (
        "pii/words.toml",
        '[diet]\nscore = 50\nwords = ["no"]',
        "pii/words.toml",
        "diet.words",
    ),
    "a word of two kinds": (
        "pii/words.toml",
        '[diet]\nscore = 50\nwords = ["HALAL"]',
        "pii/words.toml",
        "diet.words",
    ),
    "a kind without words": (
        "pii/words.toml",
        "[diet]\nscore = 50\nwords = []",
        "pii/words.toml",
        "diet.words",
    ),
    "a finding that is surer than sure": (
        "pii/words.toml",
        '[diet]\nscore = 101\nwords = ["vegan"]',
        "pii/words.toml",
        "diet.score",
    ),
    "an auditor who is also an admin": (
        "roles/policy.csv",
        "g, chief, auditor, *\ng, chief, boss, main\ng, boss, admin, *",
        "roles/policy.csv",
        "chief",
    ),
}


@pytest.mark.parametrize(("path", "content", "file", "key"), BROKEN_TOML.values(), ids=BROKEN_TOML)
def test_a_broken_pack_is_refused_and_names_file_and_key(overlay, path, content, file, key):
    folder = overlay({path: content})

    with pytest.raises(PackError) as refused:
        load_pack(folder)

    places = {(finding.file, finding.key) for finding in refused.value.findings}
    assert (file, key) in places
    assert all(finding.problem and finding.remedy for finding in refused.value.findings)
    assert f"{file}: " in refused.value.diagnostics()


def test_all_faults_are_told_at_once(overlay):
    findings = check(
        overlay(
            {
                "purposes.toml": "[purposes.marketing]\nnecessary_for_service = true",
                "fields.toml": '[fields.phone]\nstorage = "plain"',
                "roles/policy.csv": "p, clerk",
            }
        )
    )

    assert {"purposes.toml", "fields.toml", "roles/policy.csv"} <= {f.file for f in findings}


def test_a_folder_that_is_not_there_is_a_finding(tmp_path):
    assert [f.problem for f in check(tmp_path / "nowhere")] == ["the policy folder does not exist"]


def test_an_unreadable_file_is_a_finding(overlay, monkeypatch):
    folder = overlay({"purposes.toml": ""})
    read = type(folder).read_bytes

    def deny(self):
        if self.is_relative_to(folder):
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(type(folder), "read_bytes", deny)

    assert [f.problem for f in check(folder)] == ["cannot be read (Permission denied)"]


def test_two_versions_may_not_share_words(overlay, pack):
    words = {n.lang.value: n.text for n in pack.notices["marketing"]}
    revisions = "\n".join(
        f'{lang} = "{text_hash(canonical_text(text.encode()))}"' for lang, text in words.items()
    )
    folder = overlay(
        {
            **{f"notices/marketing/2.{lang}.md": text for lang, text in words.items()},
            "notices/marketing/notice.toml": '[versions.2]\nchange = "cosmetic"\n'
            f"effective_from = 2026-06-01T00:00:00+07:00\n[versions.2.revisions]\n{revisions}\n",
        }
    )

    assert {f.file for f in check(folder)} == {f"notices/marketing/2.{lang}.md" for lang in words}


def test_a_finding_reads_as_one_sentence_with_its_place():
    finding = Finding("fields.toml", "fields.phone", "is wrong", "Mend it")

    assert str(finding) == "fields.toml: fields.phone: is wrong. Mend it."

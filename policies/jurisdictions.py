"""What the law of a place says about a member's age and about the basis of a purpose.

Pure functions over the numbers of the pack; today's date is the caller's, in the jurisdiction's
own calendar. Where the law leaves a gap the more careful reading is taken.
"""

from calendar import monthrange
from datetime import date, timedelta

from policies.model import AgeTier, BasisKind, Fact, Jurisdiction, LawfulBasis, LocalText, Purpose

_MONTHS_IN = {"months": 1, "years": 12}
_PLAIN_NAMES = {
    BasisKind.CONSENT: LocalText("ความยินยอม", "Consent", "同意"),
    BasisKind.CONTRACT: LocalText("สัญญา", "Contract", "契約履行"),
    BasisKind.LEGAL_OBLIGATION: LocalText("หน้าที่ตามกฎหมาย", "Legal obligation", "法律義務"),
    BasisKind.VITAL_INTEREST: LocalText("ประโยชน์สำคัญต่อชีวิต", "Vital interest", "重大利益"),
    BasisKind.PUBLIC_TASK: LocalText("ภารกิจสาธารณะ", "Public task", "公共任務"),
    BasisKind.LEGITIMATE_INTEREST: LocalText(
        "ประโยชน์โดยชอบด้วยกฎหมาย", "Legitimate interest", "正當利益"
    ),
    BasisKind.ARCHIVE_RESEARCH_STATISTICS: LocalText(
        "จดหมายเหตุ วิจัย หรือสถิติ", "Archives, research or statistics", "檔案、研究或統計"
    ),
    BasisKind.SELF_PUBLISHED: LocalText("ข้อมูลที่เปิดเผยโดยชอบ", "Lawfully made public", "已合法公開"),
    BasisKind.PUBLIC_SOURCE: LocalText(
        "แหล่งข้อมูลทั่วไป", "Generally available source", "一般可得之來源"
    ),
    BasisKind.NO_HARM: LocalText(
        "ไม่กระทบสิทธิ", "No harm to the person's interests", "對當事人權益無侵害"
    ),
}


def completed_years(birth_date: date, today: date) -> int:
    """Count whole years of age; who was born on 29 February completes a year on 1 March.

    The day the year is complete counts as reached. In common years a birthday of 29 February
    is taken as 1 March, which keeps a child's protection a day longer rather than a day less.
    """
    before_birthday = (today.month, today.day) < (birth_date.month, birth_date.day)
    return today.year - birth_date.year - before_birthday


def age_tier(jurisdiction: Jurisdiction, birth_date: date | None, today: date) -> AgeTier:
    """Say who must act for a member of this age (PDPA s.20; GDPR art. 8).

    Args:
        jurisdiction: Whose limits apply; `jurisdiction.minors_unverified` tells whether any of
            them was never checked against its source.
        birth_date: C.E. date, `None` when it is not known.
        today: The date in the jurisdiction's calendar.

    Returns:
        The tier; `UNKNOWN` without a birth date or with one in the future.
    """
    if birth_date is None or birth_date > today:
        return AgeTier.UNKNOWN
    age = completed_years(birth_date, today)
    for tier in jurisdiction.minor_tiers:
        if age <= tier.max_age_inclusive:
            return tier.who
    return AgeTier.ADULT


def period_end(period: Fact, begins: date) -> date:
    """Give the day on which a period of law that begins on a day has passed.

    Counts `years` and `months` to the same day of the month, or to the month's last day where
    it has no such day, and `calendar_days` one by one.

    Raises:
        ValueError: the fact is not a period in these units.
    """
    match period.value, period.unit:
        case int(count), "calendar_days":
            return begins + timedelta(days=count)
        case int(count), "months" | "years" as unit:
            months = begins.year * 12 + begins.month - 1 + count * _MONTHS_IN[unit]
        case _:
            raise ValueError("not a period in days, months or years")
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(begins.day, monthrange(year, month)[1]))


def lawful_basis(purpose: Purpose, jurisdiction: Jurisdiction | None) -> LawfulBasis:
    """Give the lawful basis of a purpose in a jurisdiction, with its section.

    Without a jurisdiction the purpose's default basis is given, under its common name.
    """
    if jurisdiction is None:
        kind = purpose.default_basis
        return LawfulBasis(kind, "", "", _PLAIN_NAMES[kind])
    return jurisdiction.lawful_bases[purpose.basis[jurisdiction.code]]

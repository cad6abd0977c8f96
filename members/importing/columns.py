"""Which column of a foreign file is which field of ours.

Exports name their columns in Thai, Chinese or English. A name that is not in the list is
reported and left alone; nothing is inferred from the cells below it.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from members.importing.errors import ImportFileError
from members.normalise.text import single_line

FIELD_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "external_id": "text",
        "given_name": "name",
        "family_name": "name",
        "gender": "gender",
        "birth_date": "birth_date",
        "phone": "phone",
        "email": "email",
        "line_uid": "line_uid",
        "national_id": "national_id",
        "address": "text",
        "tier": "text",
        "points": "integer",
        "joined": "date",
        "marketing_consent": "yes_no",
        "notes": "text",
    }
)
"""The fields an import can bring, each with the kind its values are normalised as."""

IDENTIFIERS: Final = frozenset({"phone", "email", "line_uid", "national_id"})
"""Fields by which a member can be found again; a row needs one of them."""

ROW_COLUMN: Final = "_row"
ERRORS_COLUMN: Final = "_errors"

_NAMES: Final[Mapping[str, str]] = {
    "external_id": "รหัสสมาชิก|หมายเลขสมาชิก|เลขสมาชิก|เลขที่สมาชิก|รหัสลูกค้า|會員編號|會員代號|會員號碼"
    "|会员编号|客戶編號|member no|member number|member id|membership no|membership number"
    "|customer no|customer id|external id",
    "given_name": "ชื่อ|ชื่อจริง|ชื่อต้น|名|名字|given name|first name|firstname|forename",
    "family_name": "นามสกุล|สกุล|ชื่อสกุล|姓|姓氏|family name|last name|lastname|surname",
    "gender": "เพศ|性別|性别|gender|sex",
    "birth_date": "วันเกิด|วันเดือนปีเกิด|วันที่เกิด|生日|出生日期|出生年月日|birth date|birthday"
    "|date of birth|birthdate|dob",
    "phone": "เบอร์โทรศัพท์|เบอร์โทร|โทรศัพท์|โทร|เบอร์|เบอร์มือถือ|มือถือ|โทรศัพท์มือถือ|หมายเลขโทรศัพท์"
    "|เบอร์ติดต่อ|手機|手機號碼|行動電話|電話|電話號碼|聯絡電話|手机|手机号|电话|mobile|mobile no"
    "|mobile number|mobile phone|phone|phone no|phone number|telephone|tel|cell|cell phone",
    "email": "อีเมล|อีเมล์|อีเมลล์|เมล|電子郵件|電子信箱|電郵|信箱|电子邮件|邮箱|email|e mail|mail"
    "|email address",
    "line_uid": "line id|line uid|line user id|line userid|line|ไลน์|ไลน์ไอดี|ไอดีไลน์|line 帳號",
    "national_id": "เลขบัตรประชาชน|เลขประจำตัวประชาชน|เลขที่บัตรประชาชน|บัตรประชาชน|หมายเลขบัตรประชาชน"
    "|身分證字號|身份證字號|身分證號|身分證|身份證|身份证号|national id|national id no"
    "|national identification number|citizen id|id card|id card no|id number",
    "address": "ที่อยู่|地址|通訊地址|住址|聯絡地址|address|postal address|mailing address",
    "tier": "ระดับ|ระดับสมาชิก|等級|會員等級|级别|tier|level|membership level",
    "points": "แต้มคงเหลือ|แต้ม|คะแนน|คะแนนสะสม|แต้มสะสม|點數|積分|紅利點數|点数|积分|points|point"
    "|points balance|loyalty points",
    "joined": "วันที่สมัคร|วันสมัคร|วันที่สมัครสมาชิก|加入日期|入會日期|註冊日期|加入日|joined|join date"
    "|joined date|date joined|member since|registration date|signup date",
    "marketing_consent": "ยินยอมรับข่าวสาร|ยินยอม|รับข่าวสาร|ความยินยอม|同意行銷|行銷同意|同意接收行銷訊息"
    "|marketing opt in|marketing consent|opt in|accepts marketing|consent",
    "notes": "หมายเหตุ|บันทึก|備註|註記|备注|notes|note|remark|remarks|comment|comments",
}
# Thai vowel signs and tone marks are not letters to the regular expression engine; they stay.
_PUNCTUATION = re.compile("[^\\w\u0e00-\u0e7f]|_")


def _folded(header: str) -> str:
    """Drop what varies between exports: case, width, blanks and punctuation."""
    return _PUNCTUATION.sub("", single_line(header).casefold())


_FIELD_OF: Final[Mapping[str, str]] = {
    _folded(alias): field for field, names in _NAMES.items() for alias in (field, *names.split("|"))
}


def recognise(header: Sequence[str]) -> int:
    """Count the cells that name a known column in one of the three languages."""
    return sum(_folded(cell) in _FIELD_OF for cell in header)


def recognise_beyond_ascii(header: Sequence[str]) -> int:
    """Count the known column names that only the right legacy encoding could have produced."""
    return sum(not cell.isascii() and _folded(cell) in _FIELD_OF for cell in header)


def map_columns(
    header: Sequence[str], declared: Mapping[str, str]
) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
    """Return the field of each column (`None`: not imported) and the names nobody knows.

    `declared` maps a column name to a field key, or to the empty string to leave the column out
    knowingly; it wins over the list. Raises `ImportFileError` for two columns of one name or
    field, for a declared column that is not there, and when no column could identify a member.
    """
    wanted = {_folded(name): field for name, field in declared.items()}
    if [field for field in wanted.values() if field and field not in FIELD_KINDS]:
        known = ", ".join(FIELD_KINDS)
        raise ImportFileError(f"--map names a field that is none of {known}", reason="declaration")
    present = [_folded(cell) for cell in header]
    # By its place, not by its name: in a file without a header the names are somebody's values.
    if absent := [n for n, name in enumerate(declared, 1) if _folded(name) not in present]:
        places = ", ".join(map(str, absent))
        raise ImportFileError(
            f"--map names columns that the file does not have; counted from 1: {places}",
            reason="declaration",
        )
    fields: list[str | None] = []
    unknown: list[str] = []
    for number, (cell, folded) in enumerate(zip(header, present, strict=True), start=1):
        if cell in {ROW_COLUMN, ERRORS_COLUMN}:
            fields.append(None)
            continue
        if folded and folded in present[: number - 1]:
            raise ImportFileError(
                f"columns {present.index(folded) + 1} and {number} have the same name",
                reason="duplicate_column",
            )
        field = wanted[folded] if folded in wanted else _FIELD_OF.get(folded)
        if field and field in fields:
            raise ImportFileError(
                f"columns {fields.index(field) + 1} and {number} both hold {field}",
                reason="duplicate_column",
            )
        if field is None:
            unknown.append(single_line(cell) or f"column {number}")
        fields.append(field or None)
    if not any(fields):
        raise ImportFileError("the first row names no known column", reason="header")
    if IDENTIFIERS.isdisjoint(field for field in fields if field):
        raise ImportFileError("no column can identify a member", reason="no_identifier_column")
    return tuple(fields), tuple(unknown)

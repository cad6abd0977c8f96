"""Small closed vocabularies in Thai, Chinese and English: gender, yes or no, jurisdiction.

A word outside the list is refused, never mapped to the nearest one.
"""

import re
from collections.abc import Mapping
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import says_nothing, typed


def _vocabulary(**spellings: str) -> Mapping[str, str]:
    """Turn `M="male|man"` into `{"male": "M", "man": "M"}`."""
    return {word: normal for normal, words in spellings.items() for word in words.split("|")}


_GENDER: Final = _vocabulary(
    M="m|male|man|boy|mr|ช|ช.|ชาย|ผู้ชาย|เพศชาย|นาย|เด็กชาย|ด.ช.|男|男性|男生|先生",
    F="f|female|woman|girl|mrs|ms|miss|ญ|ญ.|หญิง|ผู้หญิง|เพศหญิง|นาง|นางสาว|น.ส.|เด็กหญิง|ด.ญ."
    "|女|女性|女生|小姐|女士|太太",
    X="x|other|non-binary|nonbinary|mx|อื่นๆ|อื่น ๆ|อื่น|เพศทางเลือก|其他|其它|非二元",
)
_YES_NO: Final = _vocabulary(
    yes="y|yes|1|true|t|ใช่|ยินยอม|ตกลง|อนุญาต|ยอมรับ|同意|是|有|願意",
    no="n|no|0|false|f|ไม่|ไม่ใช่|ไม่ยินยอม|ไม่ตกลง|ไม่อนุญาต|ไม่ยอมรับ|不同意|否|不|無意願|不願意",
)
_JURISDICTION: Final = _vocabulary(
    TH="th|tha|thailand|ไทย|ประเทศไทย|泰國|泰国",
    TW="tw|twn|taiwan|ไต้หวัน|台灣|臺灣|台湾|中華民國",
    CN="cn|chn|china|จีน|中國|中国",
    SG="sg|sgp|singapore|สิงคโปร์|新加坡",
    UK="uk|gb|gbr|united kingdom|great britain|สหราชอาณาจักร|英國|英国",
    EU="eu|european union|สหภาพยุโรป|歐盟|欧盟",
)
_CODE = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")


def gender(raw: str, _formats: Formats) -> Normalised:
    """Read a gender as `M`, `F` or `X`; a title of address (นาย, 小姐) counts as one."""
    return _look_up(_GENDER, raw)


def yes_no(raw: str, _formats: Formats) -> Normalised:
    """Read an answer as `yes` or `no`; silence is neither and is refused as `empty` before."""
    return _look_up(_YES_NO, raw)


def jurisdiction(raw: str, _formats: Formats) -> Normalised:
    """Read a country as the code its law pack goes by: ISO 3166, `UK` for `GB`, `US-CA`.

    Whether a pack with that code is loaded is for the policies to say.
    """
    known = _look_up(_JURISDICTION, raw)
    if isinstance(known, Normal) or known.code == "empty":
        return known
    code = typed(raw).upper()
    return Normal(code) if _CODE.fullmatch(code) is not None else Refused("invalid")


def _look_up(vocabulary: Mapping[str, str], raw: str) -> Normalised:
    line = typed(raw)
    normal = vocabulary.get(line.casefold())
    if normal is None:
        return Refused("empty" if says_nothing(line) else "invalid")
    return Normal(normal)

"""Makes the sample members that `make demo` brings in: a messy export, as shops have them.

Nobody in it exists. Names are composed from syllables and short lists written for this file,
telephone numbers count upwards in one block per country, mail goes to example.com and
example.org, identity numbers fit their checksum in a province that was never given out. The
same seed always gives the same bytes.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

SEED = 2569
TARGET = Path(__file__).resolve().parents[1] / "service" / "sample" / "members_sample.csv"
COLUMNS = (
    "member_no", "given_name", "family_name", "gender", "birth_date", "phone", "email",
    "line_uid", "national_id", "region", "language", "tier", "points", "joined",
    "marketing_sms", "marketing_email", "marketing_line",
)  # fmt: skip

THAI_MEN = (
    ("ก้องภพ", "kongphop"), ("ชลธาร", "chonlathan"), ("ธีรเดช", "thiradet"),
    ("นพคุณ", "noppakhun"), ("ปฐวี", "pathawi"), ("พงศกร", "phongsakon"),
    ("ภูริช", "phurit"), ("เมธัส", "methat"), ("รชต", "rachata"),
    ("วรากร", "warakon"), ("ศิวัช", "siwat"), ("สมชาย", "somchai"),
    ("อชิระ", "achira"), ("เอกพล", "ekkaphon"), ("ไกรวิชญ์", "kraiwit"),
    ("ดนัย", "danai"), ("ตรีเทพ", "trithep"), ("บวร", "bowon"),
)  # fmt: skip
THAI_WOMEN = (
    ("กมลชนก", "kamonchanok"), ("ขวัญข้าว", "khwankhao"), ("จิราพร", "chiraphon"),
    ("ชมพูนุท", "chomphunut"), ("ณัฐริกา", "nattharika"), ("ดารินทร์", "darin"),
    ("ทิพย์วดี", "thipwadi"), ("น้ำฟ้า", "namfa"), ("บุษบา", "butsaba"),
    ("ปาลิตา", "palita"), ("พิมพ์มาดา", "phimmada"), ("มุกดา", "mukda"),
    ("รุ่งนภา", "rungnapha"), ("ลลิตา", "lalita"), ("วริศรา", "warisara"),
    ("สมหญิง", "somying"), ("อรอุมา", "onuma"), ("เอมอร", "emon"),
)  # fmt: skip
THAI_FAMILY_HEADS = ("บุญ", "ศรี", "ทอง", "แก้ว", "สุข", "ชัย", "รัตน", "จันทร์", "ใจ", "เพชร")
THAI_FAMILY_TAILS = ("ริมธาร", "สวนหม่อน", "ทุ่งขวัญ", "ไพรงาม", "ดอนสูง", "บางน้ำ", "เนินทราย", "ฟ้าใส")
TAIWAN_FAMILIES = ("陳", "林", "黃", "張", "李", "王", "吳", "劉", "蔡", "楊", "許", "鄭")
TAIWAN_WOMEN = ("怡", "雅", "淑", "佳", "美", "詩", "欣", "芷")
TAIWAN_MEN = ("俊", "志", "宗", "建", "家", "冠", "承", "柏")
TAIWAN_ENDS = (
    ("君", "chun"),
    ("安", "an"),
    ("樺", "hua"),
    ("霖", "lin"),
    ("晴", "ching"),
    ("宇", "yu"),
)
ENGLISH_WOMEN = ("Abigail", "Beatrice", "Clara", "Dorothy", "Edith", "Florence", "Greta", "Hazel")
ENGLISH_MEN = ("Alfred", "Barnaby", "Cedric", "Duncan", "Edmund", "Felix", "Gilbert", "Hector")
ENGLISH_FAMILY_HEADS = ("Ash", "Birch", "Cran", "Elder", "Fern", "Hather", "Mul", "Thorn")
ENGLISH_FAMILY_TAILS = ("combe", "field", "garth", "leigh", "mere", "wick", "worthy")
TIERS = ("Silver", "Silver", "Silver", "Gold", "Gold", "Platinum", "")
ANSWERS = {
    "th": ("1", "0", "Y", "N", "ยินยอม", "ไม่ยินยอม"),
    "zh-Hant": ("1", "0", "Y", "N", "同意", "不同意"),
    "en": ("1", "0", "Y", "N", "yes", "no"),
}
THAI_DIGITS = str.maketrans("0123456789", "๐๑๒๓๔๕๖๗๘๙")
WIDE_DIGITS = str.maketrans("0123456789", "０１２３４５６７８９")

# Registration offices of Taiwan in the order of their codes, which is not the alphabet.
TAIWAN_OFFICES = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
OLDEST, GROWN_UP, NEWEST = date(1940, 1, 1), date(2006, 1, 1), date(2024, 1, 1)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody composed: identifiers in clean form, before the export makes a mess of them."""

    region: str
    language: str
    given_name: str
    family_name: str
    handle: str
    gender: str
    birth_date: str
    phone: str
    email: str = ""
    line_uid: str = ""
    national_id: str = ""


class Maker:
    """Composes persons and writes them down as untidily as people do."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._phones = {"TH": 0, "TW": 0}
        self._ids = 0
        self._members = 0

    def thai(self) -> Person:
        """Compose a Thai member."""
        gender = self.random.choice("MF")
        given, handle = self.random.choice(THAI_MEN if gender == "M" else THAI_WOMEN)
        family = self.random.choice(THAI_FAMILY_HEADS) + self.random.choice(THAI_FAMILY_TAILS)
        person = self._person("TH", "th", given, family, handle, gender)
        return replace(person, national_id=self._sometimes(0.45, self._thai_id()))

    def taiwanese(self) -> Person:
        """Compose a Taiwanese member."""
        gender = self.random.choice("MF")
        first = self.random.choice(TAIWAN_MEN if gender == "M" else TAIWAN_WOMEN)
        last, handle = self.random.choice(TAIWAN_ENDS)
        family = self.random.choice(TAIWAN_FAMILIES)
        person = self._person("TW", "zh-Hant", first + last, family, f"{handle}.tw", gender)
        return replace(person, national_id=self._sometimes(0.2, self._taiwan_id(gender)))

    def english(self) -> Person:
        """Compose an English-speaking member who lives in Thailand."""
        gender = self.random.choice("MF")
        given = self.random.choice(ENGLISH_MEN if gender == "M" else ENGLISH_WOMEN)
        family = self.random.choice(ENGLISH_FAMILY_HEADS) + self.random.choice(ENGLISH_FAMILY_TAILS)
        handle = f"{given}.{family}".lower()
        return self._person("TH", "en", given, family, handle, gender)

    def child_of(self, parent: Person) -> Person:
        """Compose a minor who can be reached only at the parent's phone."""
        child = {"th": self.thai, "zh-Hant": self.taiwanese, "en": self.english}[parent.language]()
        return replace(
            child,
            family_name=parent.family_name,
            birth_date=self._day(GROWN_UP + timedelta(days=500), NEWEST),
            phone=parent.phone,
            email="",
            line_uid="",
            national_id="",
        )

    def partner_of(self, person: Person) -> Person:
        """Compose an adult who shares the household's phone and nothing else."""
        other = {"th": self.thai, "zh-Hant": self.taiwanese, "en": self.english}[person.language]()
        return replace(other, family_name=person.family_name, phone=person.phone)

    def row(self, person: Person) -> list[str]:
        """Write a person as one row of the export."""
        self._members += 1
        joined = self._day(date(2018, 1, 1), date(2026, 10, 31))
        return [
            f"M{self._members:06d}",
            self._untidy(person.given_name),
            person.family_name,
            self._gender(person),
            person.birth_date,
            self._phone(person),
            self._email(person.email),
            person.line_uid,
            self._national_id(person),
            person.region,
            person.language,
            self.random.choice(TIERS),
            str(self.random.randrange(0, 20_000)),
            joined,
            *(self._answer(person.language) for _ in range(3)),
        ]

    def again(self, person: Person) -> list[str]:
        """Write the same person once more, as another branch would have typed it."""
        return self.row(replace(person, line_uid="", given_name=f" {person.given_name} "))

    def _person(
        self, region: str, language: str, given: str, family: str, handle: str, gender: str
    ) -> Person:
        phone = self._next_phone(region)
        mail = (
            f"{handle}{self._phones[region]}@{self.random.choice(('example.com', 'example.org'))}"
        )
        return Person(
            region=region,
            language=language,
            given_name=given,
            family_name=family,
            handle=handle,
            gender=gender,
            birth_date=self._sometimes(0.93, self._day(OLDEST, GROWN_UP)),
            phone=phone,
            email=self._sometimes(0.6, mail),
            line_uid=self._sometimes(0.4, f"U{self.random.getrandbits(128):032x}"),
        )

    def _next_phone(self, region: str) -> str:
        self._phones[region] += 1
        number = self._phones[region]
        if region == "TW":
            return f"+8869000{number:05d}"
        return f"+66{self.random.choice(('80', '81', '90', '99'))}000{number:04d}"

    def _thai_id(self) -> str:
        """Make the next number of province 99, which does not exist."""
        self._ids += 1
        stem = f"899{self._ids * 7919 % 1_000_000_000:09d}"
        total = sum(
            int(digit) * weight for digit, weight in zip(stem, range(13, 1, -1), strict=True)
        )
        return f"{stem}{(11 - total % 11) % 10}"

    def _taiwan_id(self, gender: str) -> str:
        self._ids += 1
        letter = self.random.choice(TAIWAN_OFFICES)
        stem = f"{1 if gender == 'M' else 2}0000{self._ids:03d}"
        office = 10 + TAIWAN_OFFICES.index(letter)
        weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1)
        total = sum(int(d) * w for d, w in zip(f"{office}{stem}", weights, strict=True))
        return f"{letter}{stem}{-total % 10}"

    def _day(self, first: date, last: date) -> str:
        return (first + timedelta(days=self.random.randrange((last - first).days))).isoformat()

    def _answer(self, language: str) -> str:
        return self._sometimes(0.6, self.random.choice(ANSWERS[language]))

    def _sometimes(self, chance: float, value: str) -> str:
        return value if self.random.random() < chance else ""

    def _untidy(self, name: str) -> str:
        return self.random.choice((name, name, name, name, f"{name} ", f"\u200b{name}"))

    def _gender(self, person: Person) -> str:
        words = {
            ("th", "M"): ("ชาย", "ช", "นาย", "M", "m"),
            ("th", "F"): ("หญิง", "ญ", "นางสาว", "F", "นาง"),
            ("zh-Hant", "M"): ("男", "M", "先生"),
            ("zh-Hant", "F"): ("女", "F", "小姐"),
            ("en", "M"): ("Male", "M", "Mr"),
            ("en", "F"): ("Female", "F", "Ms"),
        }
        return self.random.choice((*words[person.language, person.gender], ""))

    def _phone(self, person: Person) -> str:
        """Write a number in one of the ways people do; Taiwan's always says its country."""
        if person.region == "TW":
            rest = person.phone.removeprefix("+886")
            spaced = f"+886 {rest[:3]} {rest[3:6]} {rest[6:]}"
            return self.random.choice((person.phone, spaced, f"00886{rest}"))
        rest = person.phone.removeprefix("+66")
        plain, dashed = f"0{rest}", f"0{rest[:2]}-{rest[2:5]}-{rest[5:]}"
        spaced = f"+66 {rest[:2]} {rest[2:5]} {rest[5:]}"
        forms = (
            plain, plain, plain, dashed, dashed, person.phone, spaced,
            f"0066{rest}", f"'{plain}", f"(0{rest[:2]}){rest[2:]}", f"โทร. {plain}", f"{plain} ",
            f"\u200b{plain}", plain.translate(THAI_DIGITS), plain.translate(WIDE_DIGITS), rest,
        )  # fmt: skip
        return self.random.choice(forms)

    def _email(self, email: str) -> str:
        return self.random.choice(
            (email, email, email, email.upper(), f" {email}" if email else "")
        )

    def _national_id(self, person: Person) -> str:
        number = person.national_id
        if person.region == "TW" or not number:
            return number
        dashed = f"{number[0]}-{number[1:5]}-{number[5:10]}-{number[10:12]}-{number[12]}"
        return self.random.choice((number, number, dashed))


def make_rows(seed: int = SEED) -> list[list[str]]:
    """Compose all rows of the sample in their final order, the header left out."""
    maker = Maker(seed)
    people = [maker.thai() for _ in range(190)]
    people += [maker.taiwanese() for _ in range(80)]
    people += [maker.english() for _ in range(50)]
    homes = maker.random.sample(people, 18)
    people += [maker.partner_of(person) for person in homes[:8]]
    people += [maker.child_of(person) for person in homes[8:]]
    rows = [maker.row(person) for person in people]
    rows += [maker.again(person) for person in maker.random.sample(people, 10)]
    rows += _faulty(maker)
    maker.random.shuffle(rows)
    rows.extend([list(row) for row in rows[40:42]])
    return rows


def _faulty(maker: Maker) -> list[list[str]]:
    """Write rows with the faults that real exports have."""
    place = {name: number for number, name in enumerate(COLUMNS)}

    def spoilt(**cells: str) -> list[str]:
        row = maker.row(maker.thai())
        for name, value in cells.items():
            row[place[name]] = value
        return row

    nobody = {"phone": "", "email": "", "line_uid": "", "national_id": ""}
    return [
        *(spoilt(**nobody) for _ in range(3)),
        spoilt(**{**nobody, "phone": "ไม่มี"}),
        spoilt(phone="081-000"),
        spoilt(phone="080-000-9001 ต่อ 12"),
        spoilt(phone="8.10009E+08"),
        spoilt(email="no-at-sign.example.com"),
        spoilt(email="two@@example.com"),
        spoilt(national_id="8990000000010"),
        spoilt(national_id="12345"),
        spoilt(birth_date="2091-05-05"),
        spoilt(birth_date="1990-02-30"),
        spoilt(birth_date="ไม่ทราบ"),
        spoilt()[:9],
        [*spoilt(), "ลูกค้าเก่า", "VIP"],
    ]


def write_sample(target: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write the rows as UTF-8 CSV with line feeds."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def main() -> None:
    """Write the sample where the service is packaged with it, or where told."""
    parser = argparse.ArgumentParser(description="Make the sample members of the demo.")
    parser.add_argument("--out", type=Path, default=TARGET)
    target: Path = parser.parse_args().out
    rows = make_rows()
    write_sample(target, rows)
    print(f"{len(rows)} rows written to {target}")


if __name__ == "__main__":
    main()

"""Finds what is likely personal data in a text: by form, and by checksum where there is one. Says only what it is, never the text.

A person should look at each: a help desk's own number is found like a customer's. Names and postal addresses have no form to find.
"""

import enum
import re
import unicodedata
from itertools import accumulate


class PersonalData(enum.StrEnum):
    """What was found; the value is the reason in a report."""

    EMAIL = "PERSONAL_EMAIL"
    PHONE = "PERSONAL_PHONE"
    CARD = "PERSONAL_CARD"
    IBAN = "PERSONAL_IBAN"


# Bounded repetition throughout: a search takes time linear in the text, whatever it holds.
_EMAIL = re.compile(r"[\w.%+-]{1,64}@((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})(?![\w-])", re.IGNORECASE | re.ASCII)
# International (+44 20 7946 0018), with an area code in brackets ((0123) 456789, (555) 123-4567), or in groups (03-1234-5678,
# 555-123-4567, 0171 234 5678). Digits alone are too often something else, so a number without any sign or 0 in front is not taken.
_PHONE = re.compile(
    r"(?<![\w.,+/-])(?:\+\d{1,3}[ ./-]?(?:\(\d{1,5}\)[ ./-]?)?\d{1,5}(?:[ ./-]?\d{1,5}){1,5}"
    r"|\(\d{2,5}\)[ ./-]?\d{2,5}(?:[ ./-]\d{2,5}){0,3}"
    r"|0\d{1,4}[ /-]\d{2,8}(?:[ /-]\d{2,5}){0,3}"
    r"|\d{3}[.-]\d{3}[.-]\d{4})(?![\w/-])",
    re.ASCII,
)
_CARD = re.compile(r"(?<![\w.,+-])[2-6]\d{3}(?:[ -]?\d{1,6}){2,5}(?![\w-])", re.ASCII)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII)
# RFC 2606 and RFC 6761 keep these for examples: nobody has an address there.
_EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|test|localhost)$", re.IGNORECASE)

_PHONE_DIGITS = range(8, 16)  # E.164 allows 15; shorter ones are short codes or not numbers of a person
_CARD_DIGITS = range(13, 20)  # ISO/IEC 7812
_IBAN_CHARS = range(15, 35)  # ISO 13616


def find_personal_data(text: str) -> frozenset[PersonalData]:
    """Return which kinds of personal data a text likely holds."""
    # Japanese texts write numbers in full width.
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    found = set()
    if any(not _EXAMPLE_DOMAIN.search(match[1]) for match in _EMAIL.finditer(text)):
        found.add(PersonalData.EMAIL)
    if any(len(_digits(match[0])) in _PHONE_DIGITS and not _is_date(match[0]) for match in _PHONE.finditer(text)):
        found.add(PersonalData.PHONE)
    if any(_is_card(_digits(match[0])) for match in _CARD.finditer(text)):
        found.add(PersonalData.CARD)
    if any(_holds_iban(match[0]) for match in _IBAN.finditer(text)):
        found.add(PersonalData.IBAN)
    return frozenset(found)


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _is_date(text: str) -> bool:
    """Tell whether groups of digits are a day: 05-11-2026, 01/02/2026."""
    return re.fullmatch(r"\d{1,2}[ ./-]\d{1,2}[ ./-](?:19|20)\d{2}", text) is not None


def _is_card(digits: str) -> bool:
    """Check a card's number by its last digit (Luhn, ISO/IEC 7812-1 annex B); a number of one digit only is an example."""
    if len(digits) not in _CARD_DIGITS or len(set(digits)) == 1:
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0  # noqa: PLR2004 - the digits' sum


def _holds_iban(text: str) -> bool:
    """Tell whether a candidate is an IBAN, or begins with one: words behind it may look like its last groups."""
    beginnings = accumulate(text.split(" "))
    return any(len(number) in _IBAN_CHARS and _is_iban(number) for number in beginnings)


def _is_iban(number: str) -> bool:
    """Check an IBAN by its two check digits (ISO 7064, modulus 97): letters count from A = 10, the first four stand last."""
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1

"""Translations and the forms of dates, numbers and lists, by locale. Names are Tornado's (tornado.locale).

Translations come from CSV files (`load_translations`) or gettext's catalogues (`load_gettext_translations`), and are
loaded once for the process, at its start. A locale code is language and region, `es_GT`; `get` returns the closest that
there is, by region, then by language, then the default.
"""

from __future__ import annotations

import codecs
import datetime
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pollux.log import gen_log
from pollux_web.accept import accepted
from pollux_web.cookies import Cookies
from pollux_web.locale_names import LOCALE_NAMES

if TYPE_CHECKING:
    import gettext

_CODE = re.compile(r"[a-z]+(_[A-Z]+)?")
_RIGHT_TO_LEFT = {"ar", "fa", "he", "ur"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_default = "en_US"
_translations: dict[str, dict[str, dict[str, str]]] = {}
_catalogues: dict[str, gettext.NullTranslations] = {}
_locales: dict[str, Locale] = {}


def get(*locale_codes: str) -> Locale:
    """Return the locale that comes closest to the first code that has one, else the default."""
    return Locale.get_closest(*locale_codes)


def set_default_locale(code: str) -> None:
    """Set the language of the strings in the program: it needs no translations. en_US unless set."""
    global _default
    _default = code
    _locales.clear()


def get_supported_locales() -> Iterable[str]:
    """Return the codes that there are translations for, and the default."""
    return frozenset({*_translations, *_catalogues, _default})


def load_translations(directory: str, encoding: str | None = None) -> None:
    """Load `LOCALE.csv` files: message, translation, and optionally "plural" or "singular".

    :param encoding: None: UTF-8, or UTF-16 if a byte order mark says so.
    :raises OSError: the directory cannot be read.
    """
    loaded = {}
    for file in sorted(os.listdir(directory)):
        code, extension = os.path.splitext(file)
        if extension != ".csv":
            continue
        if not _CODE.fullmatch(code):
            gen_log.error("Ignored %s: a translation file is named like es_GT.csv", os.path.join(directory, file))
            continue
        path = os.path.join(directory, file)
        loaded[code] = _read_csv(path, encoding or _encoding_of(path))
    _translations.clear()
    _catalogues.clear()
    _locales.clear()
    _translations.update(loaded)
    gen_log.debug("Supported locales: %s", sorted(get_supported_locales()))


def _encoding_of(path: str) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _read_csv(path: str, encoding: str) -> dict[str, dict[str, str]]:
    import csv

    result: dict[str, dict[str, str]] = {}
    with open(path, encoding=encoding, newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) < 2:
                continue
            message, translation, *rest = (cell.strip() for cell in row)
            form = rest[0] if rest and rest[0] else "unknown"
            if form not in ("plural", "singular", "unknown"):
                gen_log.error("Ignored %s:%d: expected plural, singular or nothing, got %r", path, number, form)
                continue
            result.setdefault(form, {})[message] = translation
    return result


def load_gettext_translations(directory: str, domain: str) -> None:
    """Load `LOCALE/LC_MESSAGES/DOMAIN.mo` files.

    :raises OSError: the directory cannot be read.
    """
    import gettext

    loaded = {}
    for code in sorted(os.listdir(directory)):
        if os.path.isfile(os.path.join(directory, code, "LC_MESSAGES", f"{domain}.mo")):
            try:
                loaded[code] = gettext.translation(domain, directory, languages=[code])
            except (OSError, UnicodeError, ValueError) as error:
                gen_log.error("Cannot load the translations %s of %s: %s", domain, code, error)
    _translations.clear()
    _catalogues.clear()
    _locales.clear()
    _catalogues.update(loaded)


class Locale:
    """One locale. `get` makes it.

    :ivar code: such as "es_GT".
    :ivar name: of the language, in that language.
    :ivar rtl: it is written from right to left.
    """

    @classmethod
    def get_closest(cls, *locale_codes: str) -> Locale:
        """As `get`."""
        supported = get_supported_locales()
        for code in locale_codes:
            language, _, region = code.replace("-", "_").partition("_")
            language = language.lower()
            full = f"{language}_{region.upper()}" if region else language
            if full in supported:
                return cls.get(full)
            if language in supported:
                return cls.get(language)
        return cls.get(_default)

    @classmethod
    def get(cls, code: str) -> Locale:
        """Return the locale of a code that is supported.

        :raises KeyError: it is not.
        """
        if code not in _locales:
            if code not in get_supported_locales():
                raise KeyError(f"{code!r} is no supported locale, only {sorted(get_supported_locales())}")
            if code in _catalogues:
                _locales[code] = GettextLocale(code, _catalogues[code])
            else:
                _locales[code] = CSVLocale(code, _translations.get(code, {}))
        return _locales[code]

    def __init__(self, code: str) -> None:
        self.code = code
        self.name = LOCALE_NAMES.get(code, {}).get("name", "Unknown")
        self.rtl = code.partition("_")[0] in _RIGHT_TO_LEFT

    def translate(self, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """Return the translation of a message, the message itself if there is none.

        :param plural_message: used if `count` is not 1.
        :raises TypeError: a plural without a count.
        """
        raise NotImplementedError

    def pgettext(self, context: str, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """As `translate`, for a message that means different things in different contexts. CSV files have none."""
        raise NotImplementedError

    def format_date(
        self,
        date: float | datetime.datetime,
        gmt_offset: int = 0,
        relative: bool = True,
        shorter: bool = False,
        full_format: bool = False,
    ) -> str:
        """Return a date in words.

        :param date: seconds since 1970, or a datetime (UTC if it is naive).
        :param gmt_offset: minutes that the reader's time is behind UTC.
        :param relative: say how long ago it was, if that is less than a day.
        :param shorter: leave out the time of day.
        :param full_format: always the date in full. So are dates in the future.
        """
        if isinstance(date, datetime.datetime):
            date = date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
        else:
            date = datetime.datetime.fromtimestamp(date, datetime.UTC)
        now = datetime.datetime.now(datetime.UTC)
        if relative and datetime.timedelta(0) < date - now < datetime.timedelta(seconds=60):
            date = now  # clocks of two machines differ
        offset = datetime.timedelta(minutes=gmt_offset)
        local, local_now = date - offset, now - offset
        ago = now - date
        seconds = ago.total_seconds()
        _ = self.translate
        if not full_format and seconds >= 0:
            if relative and seconds < 50:
                return _("1 second ago", "%(seconds)d seconds ago", int(seconds)) % {"seconds": int(seconds)}
            if relative and seconds < 50 * 60:
                minutes = round(seconds / 60)
                return _("1 minute ago", "%(minutes)d minutes ago", minutes) % {"minutes": minutes}
            if relative and seconds < 86400:
                hours = round(seconds / 3600)
                return _("1 hour ago", "%(hours)d hours ago", hours) % {"hours": hours}
            form = self._form_of_past(local, local_now, ago, relative, shorter)
        else:
            form = None
        if form is None:
            form = (
                _("%(month_name)s %(day)s, %(year)s") if shorter else _("%(month_name)s %(day)s, %(year)s at %(time)s")
            )
        return form % {
            "month_name": _(_MONTHS[local.month - 1]),
            "weekday": _(_WEEKDAYS[local.weekday()]),
            "day": str(local.day),
            "year": str(local.year),
            "time": self._time_of_day(local),
        }

    def _form_of_past(
        self,
        local: datetime.datetime,
        local_now: datetime.datetime,
        ago: datetime.timedelta,
        relative: bool,
        shorter: bool,
    ) -> str | None:
        """Return the form for a date of the last year, which leaves out what goes without saying."""
        _ = self.translate
        if ago.days == 0:
            return _("%(time)s")
        if relative and ago.days == 1 and local.day == (local_now - datetime.timedelta(days=1)).day:
            return _("yesterday") if shorter else _("yesterday at %(time)s")
        if ago.days < 5:
            return _("%(weekday)s") if shorter else _("%(weekday)s at %(time)s")
        if ago.days < 334:  # eleven months: no doubt about the year
            return _("%(month_name)s %(day)s") if shorter else _("%(month_name)s %(day)s at %(time)s")
        return None

    def _time_of_day(self, local: datetime.datetime) -> str:
        if self.code == "zh_CN":
            half = "\u4e0a\u5348" if local.hour < 12 else "\u4e0b\u5348"
            return f"{half}{local.hour % 12 or 12}:{local.minute:02}"
        if self.code in ("en", "en_US"):
            return f"{local.hour % 12 or 12}:{local.minute:02} {'am' if local.hour < 12 else 'pm'}"
        return f"{local.hour}:{local.minute:02}"

    def format_day(self, date: datetime.datetime, gmt_offset: int = 0, dow: bool = True) -> str:
        """Return a date as in "Monday, January 22".

        :param gmt_offset: minutes that the reader's time is behind UTC.
        :param dow: with the day of the week.
        """
        local = date - datetime.timedelta(minutes=gmt_offset)
        _ = self.translate
        form = _("%(weekday)s, %(month_name)s %(day)s") if dow else _("%(month_name)s %(day)s")
        return form % {
            "month_name": _(_MONTHS[local.month - 1]),
            "weekday": _(_WEEKDAYS[local.weekday()]),
            "day": str(local.day),
        }

    def list(self, parts: Sequence[str]) -> str:
        """Return a list as in "A, B and C"; "" for an empty one."""
        if len(parts) < 2:
            return "".join(parts)
        comma = " \u0648 " if self.code.startswith("fa") else ", "
        return self.translate("%(commas)s and %(last)s") % {"commas": comma.join(parts[:-1]), "last": parts[-1]}

    def friendly_number(self, value: int) -> str:
        """Return a number with commas between thousands, in English; in other languages without."""
        return f"{value:,}" if self.code in ("en", "en_US") else str(value)


class CSVLocale(Locale):
    """A locale of `load_translations`."""

    def __init__(self, code: str, translations: dict[str, dict[str, str]]) -> None:
        super().__init__(code)
        self.translations = translations

    def translate(self, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """See `Locale.translate`."""
        form = "unknown"
        if plural_message is not None:
            if count is None:
                raise TypeError(f"a plural needs a count: translate({message!r}, {plural_message!r}, count)")
            form = "singular" if count == 1 else "plural"
            message = message if count == 1 else plural_message
        return self.translations.get(form, {}).get(message, message)

    def pgettext(self, context: str, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """See `Locale.pgettext`: the context is ignored."""
        return self.translate(message, plural_message, count)


class GettextLocale(Locale):
    """A locale of `load_gettext_translations`."""

    def __init__(self, code: str, translations: gettext.NullTranslations) -> None:
        super().__init__(code)
        self.translations = translations

    def translate(self, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """See `Locale.translate`."""
        if plural_message is None:
            return self.translations.gettext(message)
        if count is None:
            raise TypeError(f"a plural needs a count: translate({message!r}, {plural_message!r}, count)")
        return self.translations.ngettext(message, plural_message, count)

    def pgettext(self, context: str, message: str, plural_message: str | None = None, count: int | None = None) -> str:
        """See `Locale.pgettext`."""
        if plural_message is None:
            return self.translations.pgettext(context, message)
        if count is None:
            raise TypeError(f"a plural needs a count: pgettext({context!r}, {message!r}, {plural_message!r}, count)")
        return self.translations.npgettext(context, message, plural_message, count)


class Localized(Cookies):
    """The part of a handler that knows its locale. See `RequestHandler`."""

    _locale: Any = None

    @property
    def locale(self) -> Locale:
        """The locale of the user: what was assigned, else `get_user_locale`, else `get_browser_locale`."""
        if self._locale is None:
            self._locale = self.get_user_locale() or self.get_browser_locale()
        return self._locale  # type: ignore[no-any-return]

    @locale.setter
    def locale(self, value: Locale) -> None:
        self._locale = value

    def get_user_locale(self) -> Locale | None:
        """Return the locale that the user has chosen, None to ask the browser. Override it."""
        return None

    def get_browser_locale(self, default: str = "en_US") -> Locale:
        """Return the locale that Accept-Language comes closest to.

        :param default: if there is no such header.
        """
        codes = [code for code, weight in accepted(self.request.headers.get("Accept-Language", "")) if weight > 0]
        return get(*codes, default)

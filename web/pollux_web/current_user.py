"""`CurrentUser`: the part of a handler that knows who asks, and `authenticated`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from pollux_web.cookies import Cookies
from pollux_web.errors import HTTPError

Method = TypeVar("Method", bound=Callable[..., Any])

_UNKNOWN: Any = object()  # get_current_user was not asked yet


class CurrentUser(Cookies):
    """Who asks. See `RequestHandler`."""

    _current_user: Any = _UNKNOWN

    @property
    def current_user(self) -> Any:
        """The user: what was assigned to it (say, in `prepare`), else what `get_current_user` returned, which is asked
        once."""
        if self._current_user is _UNKNOWN:
            self._current_user = self.get_current_user()
        return self._current_user

    @current_user.setter
    def current_user(self, value: Any) -> None:
        self._current_user = value

    def get_current_user(self) -> Any:
        """Return the user, from a cookie for instance; None for nobody. Override it; it is no coroutine."""
        return None

    def get_login_url(self) -> str:
        """Return where `authenticated` sends those who are nobody: the setting `login_url`.

        :raises RuntimeError: it is not set.
        """
        self.require_setting("login_url", "@pollux_web.authenticated")
        return str(self.settings["login_url"])


def authenticated(method: Method) -> Method:
    """Decorate a method: nobody gets no further.

    GET and HEAD are redirected to `get_login_url()`, with this request's URL as the argument `next`, unless that has a
    query already; others get 403.
    """

    @functools.wraps(method)
    def checked(self: CurrentUser, *args: Any, **kwargs: Any) -> Any:
        if self.current_user:
            return method(self, *args, **kwargs)
        if self.request.method not in ("GET", "HEAD"):
            raise HTTPError(403)
        url = self.get_login_url()
        if "?" not in url:
            # An absolute login URL may be another host's: it needs to know ours.
            here = self.request.full_url() if urlsplit(url).scheme else self.request.uri
            url = f"{url}?{urlencode({'next': here})}"
        self.redirect(url)
        return None

    return checked  # type: ignore[return-value]

"""Errors that carry what was received, what was expected and, where possible, the correction.

This module imports nothing: every room may raise these.
"""


class PolluxError(Exception):
    """Base of the errors Pollux raises on its own account (an `OSError` of the kernel stays an `OSError`)."""


class ConfigError(PolluxError):
    """A configuration file, environment variable or option is malformed. Names the file, line and value."""


class BackendError(PolluxError):
    """A backend is unknown or not usable here. Lists every candidate and why each was or was not usable."""


class PluginError(PolluxError):
    """An installed plugin is broken. Names the plugin, its distribution, and the file and line at fault."""


class FdLimitError(PolluxError, ValueError):
    """The poller cannot watch a descriptor this high (select: FD_SETSIZE). The poller stays usable."""


class MissingExtraError(PolluxError, ImportError):
    """A third-party package is missing. Names the extra to install."""

"""The loggers, by Tornado's division: who is to read it.

`access_log`: one line a request. `app_log`: errors of the user's code. `gen_log`: what Pollux itself has to say,
such as bad input from the network. They are ordinary loggers beneath "pollux": configure them as any other.
"""

import logging

access_log = logging.getLogger("pollux.access")
app_log = logging.getLogger("pollux.application")
gen_log = logging.getLogger("pollux.general")

"""How long one system call may wait; this module knows no poller.

epoll_wait(2) and poll(2) take milliseconds in a C int: 2**31 ms is 24.8 days, and select(2) on some BSDs refuses
more than 10**8 s. One day is far below each of them, and to wake once a day costs nothing: the caller gets an empty
list, sees that its own deadline is not due, and waits again.
"""

LONGEST_WAIT = 86_400.0

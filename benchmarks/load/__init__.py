"""The load generator: a closed loop of requests, as a C program and as its stand-in in Python."""

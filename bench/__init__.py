"""The bench: what a relay can do on this machine, each figure beside a peer's of the same minute.

`python -m bench --help` tells the scenarios. The bench needs Linux (the load side is C on epoll) and a C compiler.
There is no fallback in Python, because a load side in Python would be what is measured.
"""

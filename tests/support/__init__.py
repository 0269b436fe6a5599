"""
What the tests share: the real things, launched.

- `server`: a real `orbital serve`, started, killed, restarted.
- `postgres`, `redis`: real ones, from the machine or else from a wheel.
- `programs`: nginx, Chromium, Node; and what to say when one is missing.
- `proxy`: a TCP proxy that does to a connection what networks do.
- `client`: people with accounts, who post and listen.
- `published`: the client class that others ship, cut out of their document.
"""

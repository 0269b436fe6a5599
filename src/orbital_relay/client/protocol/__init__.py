"""
The SDK's protocol as a state machine: frames in, effects out.

Nothing here waits, dials or knows the time: `orbital.py` and `connection.py` carry the effects out. The rules of order
and of the chain are those of `orbital_relay.core`, which the server runs too.
"""

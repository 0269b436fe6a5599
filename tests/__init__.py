"""The tests of Orbital; `tests.support` is what they share."""

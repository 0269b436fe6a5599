"""One use case a function: check the form of what was asked, make a draft or read, and let the store decide who may."""

"""The use cases, one function each: validate, read or make a draft; the store checks permissions."""

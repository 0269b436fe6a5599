"""
The bodies of requests and responses, one file a resource, one struct for each.

The services return them, HTTP encodes them, `/openapi.json` describes them and the Python SDK decodes them.

The pages of messages, of records and of a group's log are the exception: a frame leaves byte for byte as it was stored,
because its bytes were hashed. `services.messages.page`, `services.records` and `events.LogPage.json()` join those bytes
to the JSON of a page; the struct of each page describes it.
"""

"""
The bodies of requests and responses, one file a resource, one struct for each.

The services return them, HTTP encodes them, `/openapi.json` describes them and the Python SDK decodes them.
"""

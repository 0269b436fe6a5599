"""The API description: OpenAPI, and the pages that are made from it."""

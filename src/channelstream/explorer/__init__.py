"""The API explorer: Swagger UI with the server's OpenAPI document."""

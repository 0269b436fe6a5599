"""Static files: the web page and the JavaScript SDK."""

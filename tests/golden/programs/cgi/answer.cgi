#!/usr/bin/python3
"""A CGI program: calls each url= of the query, then answers with status=."""

import os
import urllib.request
from urllib.parse import parse_qs

asked = parse_qs(os.environ["QUERY_STRING"])
for url in asked.get("url", []):
    urllib.request.urlopen(url, timeout=10).read()
print(f"Status: {asked.get('status', ['200'])[0]} As Asked\nContent-Type: text/plain\n\n{os.environ.get('TRACEPARENT', 'none')}")

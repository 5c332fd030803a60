"""How each recorded-run format becomes OpenAI chat messages: one family, one file.

A family module has `NAME`, `matches(record) -> bool` (a cheap look at the keys) and `convert(record, at) -> Run`.
"""

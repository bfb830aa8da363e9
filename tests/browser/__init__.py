"""The page in a real browser, against the real process.

A package, unlike the other folders of tests: fixtures of its scope end with it, and Playwright's event loop with them,
beside which no other test could run one of its own.
"""

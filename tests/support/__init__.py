"""What the tests share: models, builders, faulty storages.  Import it as `from support import ...`."""

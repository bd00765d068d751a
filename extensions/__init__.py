"""The book's own Sphinx extensions: execution, the ledger of checks, and the site."""

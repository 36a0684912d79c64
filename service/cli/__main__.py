"""`python -m service.cli`: the command line without its entry point installed."""

from service.cli.main import app

app()

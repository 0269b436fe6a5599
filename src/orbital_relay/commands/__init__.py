"""The subcommands of `orbital`, one file each; `cli.py` registers them."""

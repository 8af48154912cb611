"""`python -m daas.cli`: how `daas serve` starts the others, whatever PATH holds."""

from daas.cli.app import main

main()

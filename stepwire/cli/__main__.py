"""`python -m stepwire.cli` is `stepwire`."""

from stepwire.cli.app import main

if __name__ == "__main__":
    main()

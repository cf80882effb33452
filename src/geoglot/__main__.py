"""`python -m geoglot` is `geoglot`."""

from geoglot.cli import main

if __name__ == "__main__":
    main()

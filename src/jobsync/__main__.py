"""``python -m jobsync``: the command ``jobsync``, where its script is not on the path."""

from jobsync.cli.main import main

if __name__ == '__main__':
    main()

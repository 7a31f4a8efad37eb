"""``python -m m3e``, which is also how ``torchrun -m m3e train …`` starts each process."""

from m3e.cli import main

if __name__ == "__main__":
    main()

"""Run `lowlight` as `python -m lowlight_cli`, which torchrun's `-m` needs."""

from lowlight_cli.cli.app import main

if __name__ == "__main__":
    main()

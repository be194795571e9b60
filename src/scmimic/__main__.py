"""``python -m scmimic`` is the command line."""

from scmimic._cli import app

if __name__ == "__main__":
    app(prog_name="scmimic")

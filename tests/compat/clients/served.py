"""The server under test, as `make compat` tells it to every client."""

import os

URL = os.environ["COMPAT_URL"]
BASE_URL = f"{URL}/v1"
KEY = os.environ["COMPAT_KEY"]
LIMITED_KEY = os.environ["COMPAT_LIMITED_KEY"]
TINY_ONLY_KEY = os.environ["COMPAT_TINY_ONLY_KEY"]
MODEL = os.environ["COMPAT_MODEL"]
ALIAS = os.environ["COMPAT_ALIAS"]
TINY = os.environ["COMPAT_TINY"]
# The tiny model's own path: every request goes to it, whatever model it names.
TINY_URL = f"{URL}{os.environ['COMPAT_TINY_PREFIX']}"
# A folder of the model's tokenizer, for clients that count tokens themselves.
TOKENIZER = os.environ["COMPAT_TOKENIZER"]
WORK = os.environ["COMPAT_WORK"]

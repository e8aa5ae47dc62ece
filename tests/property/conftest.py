"""Property tests draw the same examples each time: a run that fails can be repeated, and no change fails by luck.

``HYPOTHESIS=random`` draws new ones, to search for more.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=os.environ.get("HYPOTHESIS") != "random")
settings.load_profile("repeatable")

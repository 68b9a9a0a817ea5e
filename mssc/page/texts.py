"""What the page says, in words that a student understands. Markdown, unless it is HTML."""

import os

TITLE = "Who does what, where and when?"
INTRO = f"""# {TITLE}
Boxes follow the people in your video: grey, and coloured while somebody does something that the model knows, with its name. Nobody else
sees the video; it is deleted soon after you close the page."""
INSIDE = """The paper makes two claims. The **Motion Sense Module** (MSM) moves the features of an action away from the video's average,
so that they stand out from the background. The **Semantic Correction Fusion Module** (SFM) lets the path that sees the picture and the
path that sees motion correct each other. Here you see both at a moment of your own video."""
LIVE = """Your camera, live: step back until most of you is in the picture. Pictures go to this server while the camera is on, and nothing
is kept."""
PROMPTS = {
    "wave": "wave",
    "clap": "clap",
    "pick": "pick something up",
    "sit": "sit down",
    "stand": "stand up",
    "jump": "jump",
    "brush hair": "brush your hair",
    "throw": "throw a ball",
}
"""What to try before the camera, by action."""
CODE = f"https://huggingface.co/spaces/{os.environ['SPACE_ID']}/tree/main" if "SPACE_ID" in os.environ else ""
MORE = f"[Code]({CODE}), [notebooks]({CODE}/notebooks)." if CODE else "Code and notebooks lie where this page was started."
PAPER = "https://openreview.net/forum?id=P9bm9tW6W6"
FOOTER = f"""MS-SC re-implements the *Motion Sense and Semantic Correction* framework ([paper]({PAPER}), ICASSP 2024) from its poster. The
models on people know everyday actions of short clips, so expect mistakes elsewhere; jhmdb-plain has neither MSM nor SFM, to compare
with. The toy model knows six movements of drawn figures. {MORE}"""
ABOUT = "Give it a video: boxes follow the people in it, and say who does what, from when to when."
CARD = f"""<meta property="og:title" content="{TITLE}">
<meta property="og:description" content="{ABOUT}">
<meta property="og:type" content="website">
<meta property="og:image" content="{{address}}/picture.png">
<meta name="twitter:card" content="summary_large_image">
<meta name="twitter:title" content="{TITLE}">
<meta name="twitter:description" content="{ABOUT}">
<meta name="twitter:image" content="{{address}}/picture.png">
"""
"""What other sites show of a link to the page, see `mssc.page.card`."""
LEFT = "You left before the end."
CORNER = "The message in the corner says why."
UNREAD = "This request cannot be read; reload the page."
GONE = "This result is not here any more; find the actions again."
